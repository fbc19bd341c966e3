// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Rehearsal
/// @notice Never deployed. A node has its creation simulated (`eth_call` without an address) to learn what a contract
/// would answer once a wallet's factory had made the wallet: the first call makes it, the second asks, and nothing of
/// it happens.
contract Rehearsal {
    /// @param factory Makes the wallet (ERC-6492).
    /// @param making What the factory is called with.
    /// @param target Whom to ask then.
    /// @param question What to ask; its answer, or failure, becomes that of the creation.
    constructor(address factory, bytes memory making, address target, bytes memory question) {
        // Interaction
        (bool done, bytes memory answer) = factory.call(making);
        if (done) (done, answer) = target.call(question);
        assembly ("memory-safe") {
            if iszero(done) { revert(add(answer, 0x20), mload(answer)) }
            return(add(answer, 0x20), mload(answer))
        }
    }
}
