// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IDepositCollector} from "./interfaces/IDepositCollector.sol";
import {IERC3009DepositCollector} from "./interfaces/IERC3009DepositCollector.sol";
import {IReceiveWithAuthorization} from "./interfaces/IReceiveWithAuthorization.sol";

/// @title ERC3009DepositCollector
/// @notice See {IERC3009DepositCollector}.
contract ERC3009DepositCollector is IERC3009DepositCollector {
    using SafeERC20 for IERC20;

    /// @inheritdoc IERC3009DepositCollector
    /// @dev Immutable: it lies in the deployed code, so it survives copying that code to another address.
    address public immutable x402BatchSettlement;

    constructor(address x402BatchSettlement_) {
        if (x402BatchSettlement_ == address(0)) revert InvalidX402BatchSettlementAddress();
        x402BatchSettlement = x402BatchSettlement_;
    }

    /// @inheritdoc IDepositCollector
    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        bytes calldata collectorData
    ) external {
        // Check
        if (msg.sender != x402BatchSettlement) revert OnlyX402BatchSettlement();
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(collectorData, (uint256, uint256, uint256, bytes));

        // Interaction
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IReceiveWithAuthorization(token)
            .receiveWithAuthorization(payer, address(this), amount, validAfter, validBefore, nonce, signature);
        IERC20(token).safeTransfer(msg.sender, amount);
    }
}
