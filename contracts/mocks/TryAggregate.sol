// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title TryAggregate
/// @notice The one function of Multicall3 that official facilitators ask; public chains carry Multicall3 itself.
contract TryAggregate {
    struct Call {
        address target;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    error CallFailed(uint256 index);

    /// @notice Makes the calls in order and tells what came of each.
    function tryAggregate(bool requireSuccess, Call[] calldata calls)
        external
        payable
        returns (Result[] memory results)
    {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (results[i].success, results[i].returnData) = calls[i].target.call(calls[i].callData);
            if (requireSuccess && !results[i].success) revert CallFailed(i);
        }
    }
}
