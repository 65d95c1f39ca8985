// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "ai_vmm/backend/backend.hpp"

namespace ai_vmm::runtime {

/// Cancels requests whose time has run out. One thread for the process, started by the first use.
class Watchdog {
public:
    [[nodiscard]] static Watchdog& instance();

    /// Watches `request` until destruction. After destruction the request is never touched again.
    class Guard {
    public:
        Guard(backend::Request& request, std::chrono::steady_clock::time_point deadline);
        ~Guard();
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;
        /// Whether cancel() was called for lateness.
        [[nodiscard]] bool fired() const;

    private:
        friend class Watchdog;
        struct Entry {
            backend::Request* request;
            std::chrono::steady_clock::time_point deadline;
            bool fired = false;
        };
        std::list<Entry>::iterator entry_;
    };

private:
    Watchdog();
    void loop(const std::stop_token& stop);

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::list<Guard::Entry> entries_;  // few at a time: looked through linearly
    std::jthread thread_;
};

}  // namespace ai_vmm::runtime
