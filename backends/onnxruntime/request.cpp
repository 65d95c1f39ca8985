// SPDX-License-Identifier: Apache-2.0
#include "request.hpp"

#include <algorithm>
#include <thread>

#include "types.hpp"

namespace ai_vmm::ort {
namespace {

/// Up to here a result is copied out of the session's memory, which costs less than keeping its value does.
constexpr std::size_t kCopyBytes = 16384;

/// So many executions on the same tensors, and they are bound; binding costs about ten times of what it saves each.
constexpr int kRepeatsToBind = 8;

// The library refuses null pointers even for tensors without elements.
std::byte nothing[64];

void fill_strings(const OrtApi& api, OrtValue* value, const Tensor& tensor) {
    std::vector<const char*> texts;
    const auto* strings = static_cast<const std::string*>(tensor.data());
    for (std::size_t i = 0; i < tensor.element_count(); ++i) texts.push_back(strings[i].c_str());
    check(api.FillStringTensor(value, texts.data(), texts.size()), Phase::run);
    for (std::size_t i = 0; i < tensor.element_count(); ++i) {
        if (strings[i].find('\0') == std::string::npos) continue;  // the call above stops at the first zero byte
        char* buffer = nullptr;
        check(api.GetResizedStringTensorElementBuffer(value, i, strings[i].size(), &buffer), Phase::run);
        std::ranges::copy(strings[i], buffer);
    }
}

void read_strings(const OrtApi& api, const OrtValue* value, Tensor& into) {
    auto* strings = static_cast<std::string*>(into.data());
    for (std::size_t i = 0; i < into.element_count(); ++i) {
        std::size_t size = 0;
        check(api.GetStringTensorElementLength(value, i, &size), Phase::run);
        strings[i].resize(size);
        check(api.GetStringTensorElement(value, size, i, strings[i].data()), Phase::run);
    }
}

Shape shape_of(const OrtApi& api, const OrtValue* value) {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    check(api.GetTensorTypeAndShape(value, &raw), Phase::run);
    const Owner<OrtTensorTypeAndShapeInfo> info(raw);
    std::size_t rank = 0;
    check(api.GetDimensionsCount(raw, &rank), Phase::run);
    Shape shape(rank);
    check(api.GetDimensions(raw, shape.data(), rank), Phase::run);
    return shape;
}

bool fits(const TensorInfo& info, const Tensor& tensor) {
    if (tensor.empty() || tensor.type() != info.type) return false;
    if (!info.rank_known) return true;
    return std::ranges::equal(info.shape, tensor.shape(), [](std::int64_t want, std::int64_t have) { return want < 0 || want == have; });
}

// Into the caller's memory if it fits, else in its place.
void store(const TensorInfo& info, Tensor result, Tensor& target) {
    if (!fits(info, target) || target.shape() != result.shape()) {
        target = std::move(result);
    } else if (target.type() == ElementType::string) {
        std::ranges::copy(result.as<std::string>(), target.as<std::string>().begin());
    } else {
        std::copy_n(static_cast<const std::byte*>(result.data()), result.size_bytes(), static_cast<std::byte*>(target.data()));
    }
}

}  // namespace

OrtRequest::OrtRequest(std::shared_ptr<const SharedSession> shared) : shared_(std::move(shared)) {
    OrtRunOptions* raw = nullptr;
    check(Library::get().api->CreateRunOptions(&raw), Phase::compile);
    options_.reset(raw);
    check(Library::get().api->RunOptionsSetRunLogSeverityLevel(raw, ORT_LOGGING_LEVEL_FATAL), Phase::compile);
    input_slots_.resize(shared_->inputs.size());
    output_slots_.resize(shared_->outputs.size());
    for (std::size_t i = 0; i < output_slots_.size(); ++i) {
        if (shared_->same_as[i] != i) continue;
        output_names_.push_back(shared_->binding.output_names[i].c_str());
        output_index_.push_back(i);
    }
    input_names_.reserve(input_slots_.size());
    input_values_.reserve(input_slots_.size());
    output_values_.resize(output_index_.size());
}

OrtValue* OrtRequest::bind(Slot& slot, const Tensor& tensor) {
    const bool strings = tensor.type() == ElementType::string;
    if (slot.value && !strings && slot.data == tensor.data() && slot.shape == tensor.shape()) return slot.value.get();
    const OrtApi& api = *Library::get().api;
    const auto type = to_ort(tensor.type());
    if (!type)
        throw Error(ErrorCode::unimplemented, ErrorCategory::runtime, "ONNX Runtime has no tensors of " + std::string(to_string(tensor.type())));
    OrtValue* raw = nullptr;
    ++values_made_;
    if (strings) {
        OrtAllocator* allocator = nullptr;
        check(api.GetAllocatorWithDefaultOptions(&allocator), Phase::run);
        check(api.CreateTensorAsOrtValue(allocator, tensor.shape().data(), tensor.shape().size(), *type, &raw), Phase::run);
        slot.value.reset(raw);
        fill_strings(api, raw, tensor);
    } else {
        // The engine does not write to inputs, whatever the signature says.
        void* const data = tensor.size_bytes() == 0 ? static_cast<void*>(nothing) : const_cast<void*>(tensor.data());
        check(api.CreateTensorWithDataAsOrtValue(shared_->memory.get(), data, tensor.size_bytes(), tensor.shape().data(), tensor.shape().size(),
                                                 *type, &raw),
              Phase::run);
        slot.value.reset(raw);
    }
    slot.data = tensor.data();
    slot.shape = tensor.shape();
    return raw;
}

OrtStatus* OrtRequest::execute() {
    return Library::get().api->Run(shared_->session.get(), options_.get(), input_names_.data(), input_values_.data(), input_values_.size(),
                                   output_names_.data(), output_names_.size(), output_values_.data());
}

OrtStatus* OrtRequest::execute_bound(bool all_given) {
    if (!shared_->bindable || !all_given) return execute();
    repeats_ = values_made_ == last_made_ ? repeats_ + 1 : 0;
    last_made_ = values_made_;
    const bool bound = binding_ != nullptr && bound_at_ == values_made_ && bound_names_ == input_names_;
    const OrtApi& api = *Library::get().api;
    if (!bound) {
        if (repeats_ < kRepeatsToBind) return execute();
        repeats_ = 0;
        if (binding_ == nullptr) {
            OrtIoBinding* made = nullptr;
            if (OrtStatus* status = api.CreateIoBinding(shared_->session.get(), &made)) return status;
            binding_.reset(made);
        }
        bound_at_ = 0;  // in case of a failure half way
        api.ClearBoundInputs(binding_.get());
        api.ClearBoundOutputs(binding_.get());
        for (std::size_t i = 0; i < input_names_.size(); ++i) {
            if (OrtStatus* status = api.BindInput(binding_.get(), input_names_[i], input_values_[i])) return status;
        }
        for (std::size_t k = 0; k < output_names_.size(); ++k) {
            if (OrtStatus* status = api.BindOutput(binding_.get(), output_names_[k], output_values_[k])) return status;
        }
        bound_names_ = input_names_;
        bound_at_ = values_made_;
    }
    OrtStatus* const status = api.RunWithBinding(shared_->session.get(), options_.get(), binding_.get());
    if (status != nullptr) bound_at_ = 0;  // the outputs may be others now
    return status;
}

Tensor OrtRequest::take(std::size_t index, Owner<OrtValue> value, std::span<const Tensor> inputs) const {
    const OrtApi& api = *Library::get().api;
    const TensorInfo& info = shared_->outputs[index];
    int present = 0;
    check(api.HasValue(value.get(), &present), Phase::run);
    if (present == 0) throw Error(ErrorCode::internal, ErrorCategory::runtime, "ONNX Runtime gave no value for output '" + info.name + "'");
    Shape shape = shape_of(api, value.get());  // not the declared one: the library warns of results that are smaller, and goes on
    if (info.type == ElementType::string) {
        Tensor strings(info.type, std::move(shape));
        read_strings(api, value.get(), strings);
        return strings;
    }
    void* data = nullptr;
    check(api.GetTensorMutableData(value.get(), &data), Phase::run);
    // An output that is an input passed through comes back as the caller's own memory.
    const bool passed_through = std::ranges::any_of(inputs, [data](const Tensor& input) { return !input.empty() && input.data() == data; });
    if (data == nullptr || passed_through || size_bytes(info.type, shape) <= kCopyBytes) {
        Tensor copy(info.type, std::move(shape));
        if (copy.size_bytes() > 0) std::copy_n(static_cast<const std::byte*>(data), copy.size_bytes(), static_cast<std::byte*>(copy.data()));
        return copy;
    }
    struct Holder {
        std::shared_ptr<const SharedSession> shared;  // after the value: its memory belongs to the session's arena
        Owner<OrtValue> value;
    };
    auto holder = std::make_shared<Holder>(shared_, std::move(value));
    return Tensor::adopt(info.type, std::move(shape), data, std::move(holder));
}

void OrtRequest::run(std::span<const Tensor> inputs, std::span<Tensor> outputs) {
    const OrtApi& api = *Library::get().api;
    if (inputs.size() != input_slots_.size() || outputs.size() != output_slots_.size()) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "wrong number of tensors",
                    {.expected = std::to_string(input_slots_.size()) + " inputs, " + std::to_string(output_slots_.size()) + " outputs",
                     .found = std::to_string(inputs.size()) + " and " + std::to_string(outputs.size()),
                     .advice = {}});
    }
    input_names_.clear();
    input_values_.clear();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::string& name = shared_->binding.input_names[i];
        if (name.empty()) continue;  // the graph does not use it
        if (inputs[i].empty()) {
            if (shared_->inputs[i].optional) continue;
            throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "input '" + shared_->inputs[i].name + "' is missing");
        }
        input_names_.push_back(name.c_str());
        input_values_.push_back(bind(input_slots_[i], inputs[i]));
    }
    bool uncertain = false;  // whether a given output may turn out to have the wrong shape
    for (std::size_t k = 0; k < output_index_.size(); ++k) {
        const std::size_t i = output_index_[k];
        const TensorInfo& info = shared_->outputs[i];
        const bool given = fits(info, outputs[i]) && info.type != ElementType::string;
        output_values_[k] = given ? bind(output_slots_[i], outputs[i]) : nullptr;
        uncertain |= given && (!info.rank_known || info.is_dynamic());
    }

    const bool all_given = std::ranges::none_of(output_values_, [](const OrtValue* value) { return value == nullptr; });
    state_.store(State::running, std::memory_order_release);
    OrtStatus* status = execute_bound(all_given);
    const auto allocated_by_engine = [this](std::size_t k) {
        return output_values_[k] != nullptr && output_values_[k] != output_slots_[output_index_[k]].value.get();
    };
    if (status != nullptr && uncertain) {
        // A given output may have another shape than this run gives: let the engine allocate.
        api.ReleaseStatus(status);
        for (std::size_t k = 0; k < output_values_.size(); ++k) {
            if (allocated_by_engine(k)) api.ReleaseValue(output_values_[k]);
            output_values_[k] = nullptr;
        }
        status = execute();
    }
    const bool cancelled = end_cancellable();

    // Own what the engine allocated before anything can throw.
    struct Allocated {
        std::size_t index;
        Owner<OrtValue> value;
    };
    std::vector<Allocated> allocated;
    for (std::size_t k = 0; k < output_values_.size(); ++k) {
        if (allocated_by_engine(k)) allocated.push_back({output_index_[k], Owner<OrtValue>(output_values_[k])});
    }
    if (status != nullptr) {
        if (!cancelled) check(status, Phase::run);
        api.ReleaseStatus(status);
        throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
    }
    for (std::size_t a = 0; a < allocated.size(); ++a) {
        Tensor result = take(allocated[a].index, std::move(allocated[a].value), inputs);
        // The engine may give one piece of memory for several outputs of the same value.
        const bool shared = std::any_of(allocated.begin(), allocated.begin() + static_cast<std::ptrdiff_t>(a),
                                        [&](const Allocated& other) { return outputs[other.index].data() == result.data(); });
        store(shared_->outputs[allocated[a].index], shared ? result.clone() : std::move(result), outputs[allocated[a].index]);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (shared_->same_as[i] != i) store(shared_->outputs[i], outputs[shared_->same_as[i]].clone(), outputs[i]);
    }
}

bool OrtRequest::end_cancellable() noexcept {
    State expected = State::running;
    if (state_.compare_exchange_strong(expected, State::idle)) return false;
    while (state_ == State::cancelling) std::this_thread::yield();  // for a few instructions of cancel()
    const OrtApi& api = *Library::get().api;
    if (OrtStatus* status = api.RunOptionsUnsetTerminate(options_.get())) api.ReleaseStatus(status);
    state_ = State::idle;
    return true;
}

void OrtRequest::cancel() noexcept {
    State expected = State::running;
    if (!state_.compare_exchange_strong(expected, State::cancelling)) return;
    const OrtApi& api = *Library::get().api;
    if (OrtStatus* status = api.RunOptionsSetTerminate(options_.get())) api.ReleaseStatus(status);
    state_ = State::cancelled;  // the last touch: the request may be gone after it
}

}  // namespace ai_vmm::ort
