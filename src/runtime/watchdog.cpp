// SPDX-License-Identifier: Apache-2.0
#include "runtime/watchdog.hpp"

#include <algorithm>

namespace ai_vmm::runtime {

Watchdog& Watchdog::instance() {
    static Watchdog watchdog;
    return watchdog;
}

Watchdog::Watchdog() : thread_([this](const std::stop_token& stop) { loop(stop); }) {}

void Watchdog::loop(const std::stop_token& stop) {
    using Clock = std::chrono::steady_clock;
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
        auto next = Clock::time_point::max();
        const auto now = Clock::now();
        for (Guard::Entry& entry : entries_) {
            if (entry.fired) continue;
            if (entry.deadline <= now) {
                // Under the lock: the guard's destructor waits for it, so the request is alive.
                entry.fired = true;
                entry.request->cancel();
            } else {
                next = std::min(next, entry.deadline);
            }
        }
        if (next == Clock::time_point::max()) {
            changed_.wait(lock, stop, [this] { return std::ranges::any_of(entries_, [](const Guard::Entry& e) { return !e.fired; }); });
        } else {
            const auto generation_deadline = next;
            changed_.wait_until(lock, stop, generation_deadline, [this, generation_deadline] {
                return std::ranges::any_of(entries_, [&](const Guard::Entry& e) { return !e.fired && e.deadline < generation_deadline; });
            });
        }
    }
}

Watchdog::Guard::Guard(backend::Request& request, std::chrono::steady_clock::time_point deadline) {
    Watchdog& watchdog = instance();
    {
        const std::lock_guard lock(watchdog.mutex_);
        entry_ = watchdog.entries_.insert(watchdog.entries_.end(), Entry{&request, deadline});
    }
    watchdog.changed_.notify_all();
}

Watchdog::Guard::~Guard() {
    Watchdog& watchdog = instance();
    const std::lock_guard lock(watchdog.mutex_);
    watchdog.entries_.erase(entry_);
}

bool Watchdog::Guard::fired() const {
    const std::lock_guard lock(instance().mutex_);
    return entry_->fired;
}

}  // namespace ai_vmm::runtime
