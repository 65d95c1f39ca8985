// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>

namespace ai_vmm::runtime {

/// The processor threads of the machine and who holds them. Thread-safe; outlives its holders by shared ownership.
class ThreadAccount : public std::enable_shared_from_this<ThreadAccount> {
public:
    explicit ThreadAccount(int total) : total_(total < 1 ? 1 : total) {}

    /// Threads held until the end of life.
    class Holding {
    public:
        Holding() = default;
        Holding(std::shared_ptr<ThreadAccount> account, int threads) : account_(std::move(account)), threads_(threads) {}
        ~Holding() { release(); }
        Holding(Holding&& other) noexcept : account_(std::move(other.account_)), threads_(other.threads_) { other.threads_ = 0; }
        Holding& operator=(Holding&& other) noexcept {
            if (this != &other) {
                release();
                account_ = std::move(other.account_);
                threads_ = other.threads_;
                other.threads_ = 0;
            }
            return *this;
        }
        [[nodiscard]] int threads() const noexcept { return threads_; }
        void release() noexcept {
            if (account_) account_->give_back(threads_);
            account_.reset();
            threads_ = 0;
        }

    private:
        std::shared_ptr<ThreadAccount> account_;
        int threads_ = 0;
    };

    /// Books `threads`. Bookings may exceed the total: single deployments each plan for the whole machine (deploy_all() divides it).
    [[nodiscard]] Holding hold(int threads) {
        const std::lock_guard lock(mutex_);
        in_use_ += threads;
        return {shared_from_this(), threads};
    }
    [[nodiscard]] int total() const noexcept { return total_; }
    [[nodiscard]] int in_use() const {
        const std::lock_guard lock(mutex_);
        return in_use_;
    }

private:
    void give_back(int threads) noexcept {
        const std::lock_guard lock(mutex_);
        in_use_ -= threads;
    }

    const int total_;
    mutable std::mutex mutex_;
    int in_use_ = 0;
};

}  // namespace ai_vmm::runtime
