// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {RegistryDigests} from "./libraries/RegistryDigests.sol";

/// @title ModelRegistry
/// @notice See {IModelRegistry}.
contract ModelRegistry is IModelRegistry, EIP712, Nonces {
    /// @dev Bounds the quadratic search for duplicates and what a verifier must walk for one record.
    uint256 private constant MAX_PARENTS = 16;
    /// @dev Bytes. Names are shown in terminals and paths.
    uint256 private constant MAX_NAME_BYTES = 64;

    mapping(bytes32 id => Record) private _records;
    mapping(bytes32 id => bytes32[]) private _parents;
    mapping(address publisher => mapping(string name => bytes32 id)) private _names;

    constructor() EIP712("Weightproof ModelRegistry", "1") {}

    /// @inheritdoc IModelRegistry
    function register(Kind kind, bytes32 manifestDigest, bytes32[] calldata parents_)
        external
        returns (bytes32 id)
    {
        return _register(msg.sender, kind, manifestDigest, parents_);
    }

    /// @inheritdoc IModelRegistry
    function registerFor(
        address publisher,
        Kind kind,
        bytes32 manifestDigest,
        bytes32[] calldata parents_,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 id) {
        // Check
        bytes32 request = RegistryDigests.registration(publisher, kind, manifestDigest, parents_, deadline);
        _checkSigned(publisher, request, deadline, signature);

        return _register(publisher, kind, manifestDigest, parents_);
    }

    /// @inheritdoc IModelRegistry
    function revoke(bytes32 id, string calldata reason) external {
        // Check
        address publisher = _checkedPublisher(id);
        if (msg.sender != publisher) revert NotPublisher(msg.sender, publisher);

        _revoke(id, publisher, reason);
    }

    /// @inheritdoc IModelRegistry
    function revokeFor(bytes32 id, string calldata reason, uint256 deadline, bytes calldata signature)
        external
    {
        // Check
        address publisher = _checkedPublisher(id);
        _checkSigned(publisher, RegistryDigests.revocation(id, reason, deadline), deadline, signature);

        _revoke(id, publisher, reason);
    }

    /// @inheritdoc IModelRegistry
    function setName(string calldata name, bytes32 id) external {
        _setName(msg.sender, name, id);
    }

    /// @inheritdoc IModelRegistry
    function setNameFor(
        address publisher,
        string calldata name,
        bytes32 id,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external {
        // Check
        bytes32 request = RegistryDigests.naming(publisher, name, id, nonce, deadline);
        _checkSigned(publisher, request, deadline, signature);

        // Effect
        _useCheckedNonce(publisher, nonce);

        _setName(publisher, name, id);
    }

    /// @inheritdoc IModelRegistry
    function record(bytes32 id) external view returns (Record memory) {
        return _records[id];
    }

    /// @inheritdoc IModelRegistry
    function parents(bytes32 id) external view returns (bytes32[] memory) {
        return _parents[id];
    }

    /// @inheritdoc IModelRegistry
    function resolve(address publisher, string calldata name) external view returns (bytes32) {
        return _names[publisher][name];
    }

    /// @inheritdoc IModelRegistry
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IModelRegistry
    function nonces(address publisher) public view override(IModelRegistry, Nonces) returns (uint256) {
        return super.nonces(publisher);
    }

    /// @inheritdoc IModelRegistry
    function recordId(address publisher, bytes32 manifestDigest) public pure returns (bytes32) {
        return keccak256(abi.encode(publisher, manifestDigest));
    }

    function _register(address publisher, Kind kind, bytes32 manifestDigest, bytes32[] calldata parents_)
        private
        returns (bytes32 id)
    {
        // Check
        if (kind == Kind.None) revert InvalidKind(kind);
        if (manifestDigest == 0) revert ZeroDigest();
        id = recordId(publisher, manifestDigest);
        if (_records[id].status != Status.Unknown) revert AlreadyRegistered(id);
        _checkParents(kind, parents_);

        // Effect
        _records[id] = Record({
            publisher: publisher,
            kind: kind,
            status: Status.Active,
            registeredAt: uint64(block.timestamp),
            revokedAt: 0,
            manifestDigest: manifestDigest
        });
        _parents[id] = parents_;

        // Log
        emit Registered(id, publisher, kind, manifestDigest, parents_);
    }

    function _revoke(bytes32 id, address publisher, string calldata reason) private {
        // Check
        if (_records[id].status == Status.Revoked) revert AlreadyRevoked(id);

        // Effect
        _records[id].status = Status.Revoked;
        _records[id].revokedAt = uint64(block.timestamp);

        // Log
        emit Revoked(id, publisher, reason);
    }

    function _setName(address publisher, string calldata name, bytes32 id) private {
        // Check
        _checkName(name);
        address owner = _checkedPublisher(id);
        if (owner != publisher) revert NotPublisher(publisher, owner);
        if (_records[id].status == Status.Revoked) revert AlreadyRevoked(id);

        // Effect
        _names[publisher][name] = id;

        // Log
        emit NameSet(publisher, name, id);
    }

    function _checkedPublisher(bytes32 id) private view returns (address) {
        if (_records[id].status == Status.Unknown) revert UnknownRecord(id);
        return _records[id].publisher;
    }

    function _checkSigned(address signer, bytes32 request, uint256 deadline, bytes calldata signature)
        private
        view
    {
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        bytes32 digest = _hashTypedDataV4(request);
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, digest, signature)) {
            revert InvalidSignature(signer);
        }
    }

    function _checkParents(Kind child, bytes32[] calldata parents_) private view {
        uint256 count = parents_.length;
        if (count > MAX_PARENTS) revert TooManyParents(count, MAX_PARENTS);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 parent = parents_[i];
            Record storage found = _records[parent];
            (Kind kind, Status status) = (found.kind, found.status);
            if (status == Status.Unknown) revert UnknownParent(parent);
            if (status == Status.Revoked) revert RevokedParent(parent);
            if (!_mayComeFrom(child, kind)) revert ParentKindNotAllowed(parent, kind, child);
            for (uint256 j = 0; j < i; ++j) {
                if (parents_[j] == parent) revert DuplicateParent(parent);
            }
        }
    }

    function _mayComeFrom(Kind child, Kind parent) private pure returns (bool) {
        if (child == Kind.Dataset) return parent == Kind.Dataset;
        if (child == Kind.Run) return parent == Kind.Dataset || parent == Kind.Model;
        return parent == Kind.Run || parent == Kind.Model;
    }

    function _checkName(string calldata name) private pure {
        bytes calldata letters = bytes(name);
        if (letters.length == 0 || letters.length > MAX_NAME_BYTES) revert InvalidName(name);
        for (uint256 i = 0; i < letters.length; ++i) {
            bytes1 letter = letters[i];
            bool allowed = (letter >= "a" && letter <= "z") || (letter >= "0" && letter <= "9")
                || letter == "." || letter == "_" || letter == "-";
            if (!allowed) revert InvalidName(name);
        }
    }
}
