// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace ai_vmm::node_test {

struct Outcome {
    std::string status;  ///< "passed", "failed", "refused", "crashed"
    std::string why;
    std::string engine;              ///< engine and version that ran it; empty if none did
    bool needs_new_process = false;  ///< what went wrong may have left its mark on the process (a device context, say)
};

/// Runs one item in a worker process.
using Work = std::function<Outcome(std::size_t index)>;

/// Runs items 0 to `count` - 1 in `jobs` forked processes that take the next item each. A process that ends inside an item, or is silent for
/// `timeout` in one, costs that item ("crashed", with the last of what it wrote) and is replaced; one that ends before its first item is not. The
/// caller must have one thread and nothing open that a fork breaks, such as a device.
///
/// @param make_work  called once in each process, before its first item.
/// @param on_result  called in this process, in order of arrival, once per item.
/// @throws std::system_error a process can't be made.
void run_in_workers(std::size_t count, int jobs, std::chrono::seconds timeout, const std::function<Work()>& make_work,
                    const std::function<void(std::size_t index, const Outcome&)>& on_result);

}  // namespace ai_vmm::node_test
