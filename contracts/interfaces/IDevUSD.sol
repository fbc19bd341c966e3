// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

/// @title IDevUSD
/// @notice The devnet's dollar: ERC-20 and ERC-3009, the signature overloads that take EIP-1271 wallets, as dollar
/// tokens on public chains offer them, and a mint for everybody.
interface IDevUSD is IERC20Metadata, IERC3009, IERC3009Cancel {
    /// @notice Makes tokens out of nothing. Open to all: this token is worth nothing and lives on devnets only.
    /// @param account Who gets them.
    /// @param amount Atomic units; a dollar has 10^6.
    function mint(address account, uint256 amount) external;

    /// @notice ERC-3009 transfer on the signature of `from`, a key or an EIP-1271 wallet.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice As `transferWithAuthorization`, but only `to` itself may call it, so nobody can run ahead of it.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice Uses up a nonce without a transfer, on the signature of `authorizer`.
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external;

    /// @notice Version of the token's EIP-712 domain.
    function version() external view returns (string memory);

    /// @notice The token's EIP-712 domain separator.
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
