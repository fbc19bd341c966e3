// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {IDevUSD} from "../interfaces/IDevUSD.sol";

/// @title DevUSD
/// @notice The devnet's dollar: a token with ERC-3009 and six decimals that anyone may mint. See {IDevUSD}.
contract DevUSD is IDevUSD, ERC3009 {
    constructor() ERC20("DevUSD", "DUSD") EIP712("DevUSD", "1") {}

    /// @inheritdoc IDevUSD
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    /// @inheritdoc IDevUSD
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        // Check
        bytes32 typehash = TRANSFER_WITH_AUTHORIZATION_TYPEHASH;
        bytes32 request = keccak256(abi.encode(typehash, from, to, value, validAfter, validBefore, nonce));
        _checkSigned(from, request, signature);

        _transferWithAuthorization(from, to, value, validAfter, validBefore, nonce);
    }

    /// @inheritdoc IDevUSD
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        // Check
        if (msg.sender != to) revert ERC20InvalidReceiver(to);
        bytes32 typehash = RECEIVE_WITH_AUTHORIZATION_TYPEHASH;
        bytes32 request = keccak256(abi.encode(typehash, from, to, value, validAfter, validBefore, nonce));
        _checkSigned(from, request, signature);

        _transferWithAuthorization(from, to, value, validAfter, validBefore, nonce);
    }

    /// @inheritdoc IDevUSD
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external {
        // Check
        _checkSigned(
            authorizer, keccak256(abi.encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), signature
        );

        _cancelAuthorization(authorizer, nonce);
    }

    /// @inheritdoc IDevUSD
    function version() external view returns (string memory) {
        return _EIP712Version();
    }

    /// @inheritdoc IDevUSD
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @notice Six, as the dollar tokens of public chains have.
    function decimals() public pure override(ERC20, IERC20Metadata) returns (uint8) {
        return 6;
    }

    function _checkSigned(address signer, bytes32 request, bytes calldata signature) private view {
        bytes32 digest = _hashTypedDataV4(request);
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, digest, signature)) {
            revert ERC3009InvalidSignature();
        }
    }
}
