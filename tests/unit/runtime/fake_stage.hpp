// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/stage.hpp"

namespace ai_vmm::runtime::testing {

/// What a fake engine does: called for every run, on the running thread.
using Behaviour = std::function<void(std::span<const Tensor>, std::span<Tensor>, const std::atomic<bool>& cancelled)>;

class FakeRequest final : public backend::Request {
public:
    explicit FakeRequest(Behaviour behaviour) : behaviour_(std::move(behaviour)) {}
    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override {
        cancelled_ = false;
        behaviour_(inputs, outputs, cancelled_);
    }
    void cancel() noexcept override { cancelled_ = true; }

private:
    Behaviour behaviour_;
    std::atomic<bool> cancelled_{false};
};

class FakeExecutable final : public backend::Executable {
public:
    explicit FakeExecutable(Behaviour behaviour, bool reads_cuda = false) : behaviour_(std::move(behaviour)), reads_cuda_(reads_cuda) {}
    std::unique_ptr<backend::Request> create_request() override { return std::make_unique<FakeRequest>(behaviour_); }
    [[nodiscard]] bool reads(const MemoryPlace& place) const noexcept override { return place.is_host() || reads_cuda_; }

private:
    Behaviour behaviour_;
    bool reads_cuda_;
};

/// "Memory of cuda:N" that is the host's: copies between places, counted.
struct FakeCopies {
    int copies = 0;
    void operator()(const Tensor& from, Tensor& to) {
        ++copies;
        if (to.empty()) {
            const MemoryPlace place = to.place();
            auto memory = std::make_shared<std::vector<std::byte>>(from.size_bytes());
            to = Tensor::borrow(from.type(), from.shape(), memory->data(), place, memory);
        }
        std::copy_n(static_cast<const std::byte*>(from.data()), from.size_bytes(), static_cast<std::byte*>(to.data()));
    }
};

/// y = scale * x for f32 of any shape.
inline Behaviour scale_by(float scale) {
    return [scale](std::span<const Tensor> inputs, std::span<Tensor> outputs, const std::atomic<bool>&) {
        const auto x = inputs[0].as<float>();
        if (outputs[0].empty() || outputs[0].shape() != inputs[0].shape()) outputs[0] = Tensor(ElementType::f32, inputs[0].shape());
        for (std::size_t i = 0; i < x.size(); ++i) outputs[0].as<float>()[i] = scale * x[i];
    };
}

inline Behaviour fails(ErrorCode code = ErrorCode::internal) {
    return [code](std::span<const Tensor>, std::span<Tensor>, const std::atomic<bool>&) {
        throw Error(code, ErrorCategory::runtime, "the fake engine fails");
    };
}

/// Runs until cancelled (at most 30 s).
inline Behaviour stalls() {
    return [](std::span<const Tensor>, std::span<Tensor>, const std::atomic<bool>& cancelled) {
        for (int i = 0; i < 30000 && !cancelled; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the fake engine was cancelled");
    };
}

/// Makes fake stages by engine name; counts what was asked.
class FakeFactory final : public StageFactory {
public:
    std::map<std::string, Behaviour> engines;
    std::string reads_cuda;  ///< name of an engine that does
    std::vector<std::string> made;

    std::shared_ptr<Stage> make(const planning::CandidateKey& key) override {
        made.push_back(key.id());
        const auto found = engines.find(key.engine);
        if (found == engines.end()) throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, key.engine + " can't compile it");
        return std::make_shared<Stage>(key, std::make_shared<FakeExecutable>(found->second, key.engine == reads_cuda), key.streams);
    }
};

inline planning::CandidateKey key(std::string engine, int streams = 1, int batch = 1, Precision precision = Precision::f32) {
    return {std::move(engine), "cpu:0", precision, 1, streams, batch};
}

}  // namespace ai_vmm::runtime::testing
