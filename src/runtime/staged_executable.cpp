// SPDX-License-Identifier: Apache-2.0
#include "runtime/staged_executable.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

namespace ai_vmm::runtime {
namespace {

class StagedRequest final : public backend::Request {
public:
    StagedRequest(const std::vector<StagePart>& parts, const StageValues& values) : parts_(parts), values_(values) {
        for (const StagePart& part : parts_) requests_.push_back(part.executable->create_request());
        kept_.resize(static_cast<std::size_t>(values_.count));
        from_caller_.assign(kept_.size(), false);
        for (int value : values_.inputs) {
            if (value >= 0) from_caller_[static_cast<std::size_t>(value)] = true;
        }
    }

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override {
        if (inputs.size() != values_.inputs.size() || outputs.size() != values_.outputs.size())
            throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "run() needs one tensor per input and output of the model");
        begin();
        struct End {
            StagedRequest& request;
            ~End() { request.end(); }
        } const end_of_run{*this};
        for (std::size_t k = 0; k < inputs.size(); ++k) {
            if (values_.inputs[k] >= 0) kept_[static_cast<std::size_t>(values_.inputs[k])] = inputs[k];
        }
        // What the caller gave to be written into goes to the stage that makes it; a value that is asked for twice is copied.
        std::vector<bool> given(kept_.size());
        std::vector<std::size_t> copies;
        for (std::size_t k = 0; k < outputs.size(); ++k) {
            const auto value = static_cast<std::size_t>(values_.outputs[k]);
            if (from_caller_[value] || given[value]) {
                copies.push_back(k);
                continue;
            }
            given[value] = true;
            kept_[value] = outputs[k];  // a handle: the caller keeps its own for another engine, if this one fails
        }
        std::vector<Tensor> stage_inputs, stage_outputs;
        for (std::size_t s = 0; s < parts_.size(); ++s) {
            const StagePart& part = parts_[s];
            stage_inputs.clear();
            stage_outputs.clear();
            for (int value : part.inputs) stage_inputs.push_back(kept_[static_cast<std::size_t>(value)]);
            for (int value : part.outputs) stage_outputs.push_back(std::exchange(kept_[static_cast<std::size_t>(value)], Tensor()));
            enter(*requests_[s]);
            try {
                requests_[s]->run(stage_inputs, stage_outputs);
            } catch (const Error& error) {
                if (error.code() == ErrorCode::cancelled) throw;
                // What a stage in the middle refuses was made by another one: the caller is not to blame.
                const bool direct = std::ranges::any_of(part.inputs, [&](int value) { return from_caller_[static_cast<std::size_t>(value)]; });
                const ErrorCode code = error.code() == ErrorCode::invalid_argument && !direct ? ErrorCode::internal : error.code();
                throw Error(code, error.category(),
                            "stage " + std::to_string(s + 1) + " of " + std::to_string(parts_.size()) + ", " + part.where + ": " + error.message(),
                            {.expected = error.expected(), .found = error.found(), .advice = error.advice()});
            }
            for (std::size_t k = 0; k < part.outputs.size(); ++k) kept_[static_cast<std::size_t>(part.outputs[k])] = std::move(stage_outputs[k]);
        }
        for (std::size_t k = 0; k < outputs.size(); ++k) {
            const auto value = static_cast<std::size_t>(values_.outputs[k]);
            if (std::ranges::find(copies, k) == copies.end()) outputs[k] = kept_[value];
        }
        for (std::size_t k : copies) copy(kept_[static_cast<std::size_t>(values_.outputs[k])], outputs[k]);
    }

    void cancel() noexcept override {
        const std::scoped_lock lock(mutex_);
        if (!running_) return;
        cancelled_ = true;
        if (current_ != nullptr) current_->cancel();
    }

private:
    void begin() {
        const std::scoped_lock lock(mutex_);
        running_ = true;
        cancelled_ = false;
    }
    /// From here on cancel() reaches `request`.
    void enter(backend::Request& request) {
        const std::scoped_lock lock(mutex_);
        if (cancelled_) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
        current_ = &request;
    }
    void end() noexcept {
        {
            const std::scoped_lock lock(mutex_);
            running_ = false;
            current_ = nullptr;
        }
        // The caller's tensors are the caller's again; what passes between stages keeps its memory.
        for (int value : values_.inputs) {
            if (value >= 0) kept_[static_cast<std::size_t>(value)] = Tensor();
        }
        for (int value : values_.outputs) kept_[static_cast<std::size_t>(value)] = Tensor();
    }

    static void copy(const Tensor& from, Tensor& to) {
        if (to.empty() || to.type() != from.type() || to.shape() != from.shape()) to = Tensor(from.type(), from.shape());
        if (from.type() == ElementType::string) {
            std::ranges::copy(from.as<std::string>(), to.as<std::string>().begin());
        } else if (from.size_bytes() > 0) {
            std::memcpy(to.data(), from.data(), from.size_bytes());
        }
    }

    const std::vector<StagePart>& parts_;  // the executable outlives its requests
    const StageValues& values_;
    std::vector<std::unique_ptr<backend::Request>> requests_;
    std::vector<Tensor> kept_;  // per value
    std::vector<bool> from_caller_;
    std::mutex mutex_;  // guards what follows against cancel()
    backend::Request* current_ = nullptr;
    bool running_ = false;
    bool cancelled_ = false;
};

}  // namespace

std::unique_ptr<backend::Request> StagedExecutable::create_request() { return std::make_unique<StagedRequest>(parts_, values_); }

std::int64_t StagedExecutable::memory_bytes() const {
    std::int64_t bytes = 0;
    for (const StagePart& part : parts_) bytes += part.executable->memory_bytes();
    return bytes;
}

std::vector<std::pair<std::string, std::string>> StagedExecutable::properties() const {
    std::vector<std::pair<std::string, std::string>> all{{"STAGES", std::to_string(parts_.size())}};
    for (std::size_t s = 0; s < parts_.size(); ++s) {
        const std::string prefix = "STAGE" + std::to_string(s + 1);
        all.emplace_back(prefix, parts_[s].where);
        for (auto& [name, value] : parts_[s].executable->properties()) all.emplace_back(prefix + "." + name, std::move(value));
    }
    return all;
}

}  // namespace ai_vmm::runtime
