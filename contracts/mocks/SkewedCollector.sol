// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {IDevUSD} from "../interfaces/IDevUSD.sol";

/// @title SkewedCollector
/// @notice Brings `skew` tokens more than asked, or fewer if it is negative. Any skew must be refused.
contract SkewedCollector is IDepositCollector {
    int256 private immutable _skew;

    constructor(int256 skew) {
        _skew = skew;
    }

    /// @inheritdoc IDepositCollector
    function collect(address, address token, uint256 amount, bytes32, bytes calldata) external {
        uint256 brought = _skew < 0 ? amount - uint256(-_skew) : amount + uint256(_skew);
        IDevUSD(token).mint(msg.sender, brought);
    }
}
