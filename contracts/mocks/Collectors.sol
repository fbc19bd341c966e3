// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevUSD} from "../dev/DevUSD.sol";
import {IDepositCollector} from "../interfaces/IDepositCollector.sol";

/// @title SkewedCollector
/// @notice Brings `skew` tokens more than asked, or fewer if it is negative. Any skew must be refused.
contract SkewedCollector is IDepositCollector {
    int256 private immutable _skew;

    constructor(int256 skew) {
        _skew = skew;
    }

    /// @inheritdoc IDepositCollector
    function collect(address, address token, uint256 amount, bytes32, bytes calldata) external {
        uint256 brought = uint256(int256(amount) + _skew);
        DevUSD(token).mint(msg.sender, brought);
    }
}

/// @title ReentrantCollector
/// @notice Calls its caller back with its own data instead of bringing tokens.
contract ReentrantCollector is IDepositCollector {
    /// @inheritdoc IDepositCollector
    function collect(address, address, uint256, bytes32, bytes calldata collectorData) external {
        (bool ok, bytes memory answer) = msg.sender.call(collectorData);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}
