// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../contracts/interfaces/INodeRegistry.sol";
import {LogTree} from "./LogTree.sol";
import {NodeWorld} from "./NodeWorld.sol";

/// @notice Nodes that are put up, lie or do not, are challenged, answer or are silent.
contract NodeActors is NodeWorld {
    uint256 private constant SIZE = 24;

    bytes32[] private _log = leaves(SIZE, 99, 0);
    bytes32[] private _ids;
    uint256[2][] private _asked;

    /// @notice Whether the node ever signed a lie: only then may its bond be lost by a report.
    bool public lied;
    /// @notice Whether it was silent beyond the window when a challenge was ended.
    bool public silent;
    /// @notice Tokens that went in, and that came out.
    uint256 public drawn;

    constructor() {
        setUp();
        register();
        drawn = BOND;
    }

    function raise(uint128 amount) external {
        amount = uint128(bound(amount, 1, 10e6));
        vm.prank(owner);
        try registry.raise(node, amount) {
            drawn += amount;
        } catch {}
    }

    function announceLeaving() external {
        vm.prank(owner);
        try registry.announceLeaving(node) {} catch {}
    }

    function withdrawBond() external {
        vm.prank(owner);
        try registry.withdrawBond(node) {} catch {}
    }

    function wait(uint256 time) external {
        skip(bound(time, 1 hours, 2 days));
    }

    /// @dev Everything that honest signatures allow to be reported: none of it may succeed.
    function reportHonesty(uint256 old, uint256 size, uint256 index, bool reversed) external {
        size = bound(size, 2, SIZE);
        old = bound(old, 1, size);
        index = bound(index, 0, old - 1);
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) =
            (headOf(_log, old), headOf(_log, size));
        (INodeRegistry.Inclusion memory a, INodeRegistry.Inclusion memory b) =
            (included(_log, index, old), included(_log, index, size));
        if (reversed) (one, two, a, b) = (two, one, b, a);
        try registry.reportFork(ORIGIN, one, two) {} catch {}
        try registry.reportRewrite(ORIGIN, one, a, two, b, uint64(index)) {} catch {}
        b.leaf = keccak256(abi.encode(b.leaf));
        try registry.reportRewrite(ORIGIN, one, a, two, b, uint64(index)) {} catch {}
    }

    function lie(uint256 size) external {
        size = bound(size, 1, SIZE);
        // Seldom, or nothing else would ever happen.
        if (uint256(keccak256(abi.encode(size, block.timestamp))) % 16 != 0) return;
        INodeRegistry.Head memory one = headOf(_log, size);
        INodeRegistry.Head memory two = head(uint64(size), "forked");
        vm.prank(reporter);
        try registry.reportFork(ORIGIN, one, two) {
            lied = true;
        } catch {}
    }

    function challenge(uint256 old, uint256 size) external {
        size = bound(size, 2, SIZE);
        old = bound(old, 1, size - 1);
        (INodeRegistry.Head memory one, INodeRegistry.Head memory two) =
            (headOf(_log, old), headOf(_log, size));
        vm.prank(reporter);
        try registry.challenge(ORIGIN, one, two) returns (bytes32 id) {
            drawn += STAKE;
            _ids.push(id);
            _asked.push([old, size]);
        } catch {}
    }

    function answer(uint256 which) external {
        if (_ids.length == 0) return;
        (uint256 old, uint256 size) = (_asked[which % _ids.length][0], _asked[which % _ids.length][1]);
        try registry.answer(
            node,
            uint64(old),
            LogTree.root(_log, 0, old),
            uint64(size),
            LogTree.root(_log, 0, size),
            LogTree.consistency(_log, old, size)
        ) {}
            catch {}
    }

    function endSilence(uint256 which) external {
        if (_ids.length == 0) return;
        bool stood = registry.nodes(node).slashedAt == 0;
        try registry.endSilence(_ids[which % _ids.length]) {
            if (stood) silent = true;
        } catch {}
    }

    /// @notice What stands to be given: the bond and the stakes.
    function due() external view returns (uint256) {
        INodeRegistry.Node memory known = registry.nodes(node);
        return known.bond + uint256(STAKE) * known.challenges;
    }

    function held() external view returns (uint256) {
        return token.balanceOf(address(registry));
    }

    function isSlashed() external view returns (bool) {
        return registry.nodes(node).slashedAt != 0;
    }
}

contract NodeRegistryInvariantTest is NodeWorld {
    NodeActors private actors;

    function setUp() public override {
        vm.warp(1_750_000_000);
        actors = new NodeActors();
        targetContract(address(actors));
        bytes4[] memory steps = new bytes4[](9);
        steps[0] = actors.raise.selector;
        steps[1] = actors.announceLeaving.selector;
        steps[2] = actors.withdrawBond.selector;
        steps[3] = actors.wait.selector;
        steps[4] = actors.reportHonesty.selector;
        steps[5] = actors.lie.selector;
        steps[6] = actors.challenge.selector;
        steps[7] = actors.answer.selector;
        steps[8] = actors.endSilence.selector;
        targetSelector(FuzzSelector({addr: address(actors), selectors: steps}));
    }

    function invariant_the_contract_holds_every_bond_and_stake() public view {
        assertEq(actors.held(), actors.due());
    }

    function invariant_only_a_lie_or_silence_costs_a_bond() public view {
        if (actors.isSlashed()) assertTrue(actors.lied() || actors.silent());
    }
}
