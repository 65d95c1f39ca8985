// SPDX-License-Identifier: Apache-2.0
#include "specialised.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ostream>
#include <sstream>

namespace ai_vmm::openvino {
namespace {

class SpecialisedRequest final : public backend::Request {
public:
    SpecialisedRequest(const SpecialisedExecutable& owner, std::unique_ptr<backend::Request> fixed) : owner_(owner), fixed_(std::move(fixed)) {}

    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override {
        const std::vector<Shape>& shapes = owner_.shapes();
        bool typical = inputs.size() == shapes.size();
        for (std::size_t i = 0; typical && i < inputs.size(); ++i) typical = inputs[i].shape() == shapes[i];
        if (typical) {
            fixed_->run(inputs, outputs);
            return;
        }
        if (general_ == nullptr) {
            general_made_ = owner_.general().create_request();
            general_ = general_made_.get();
        }
        general_.load()->run(inputs, outputs);
    }

    void cancel() noexcept override {
        fixed_->cancel();
        if (backend::Request* general = general_) general->cancel();
    }

private:
    const SpecialisedExecutable& owner_;
    const std::unique_ptr<backend::Request> fixed_;
    std::unique_ptr<backend::Request> general_made_;
    std::atomic<backend::Request*> general_ = nullptr;  // cancel() may look while run() makes it
};

void put(std::ostream& out, std::int64_t value) { out.write(reinterpret_cast<const char*>(&value), sizeof value); }

void put_part(std::ostream& out, const Executable& executable) {
    std::ostringstream part;
    executable.export_blob(part);
    const std::string bytes = std::move(part).str();
    put(out, static_cast<std::int64_t>(bytes.size()));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::int64_t take(std::span<const std::byte>& blob, std::int64_t limit) {
    std::int64_t value = -1;
    if (blob.size() >= sizeof value) {
        std::memcpy(&value, blob.data(), sizeof value);
        blob = blob.subspan(sizeof value);
    }
    if (value < 0 || value > limit) throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "the compiled model is cut off");
    return value;
}

}  // namespace

SpecialisedExecutable::SpecialisedExecutable(std::vector<Shape> shapes, std::unique_ptr<openvino::Executable> fixed, MakeGeneral make_general)
    : shapes_(std::move(shapes)), fixed_(std::move(fixed)), make_general_(std::move(make_general)) {}

std::unique_ptr<backend::Request> SpecialisedExecutable::create_request() {
    return std::make_unique<SpecialisedRequest>(*this, fixed_->create_request());
}

std::int64_t SpecialisedExecutable::memory_bytes() const {
    const std::lock_guard lock(mutex_);
    return fixed_->memory_bytes() + (general_ ? general_->memory_bytes() : 0);
}

openvino::Executable& SpecialisedExecutable::general() const {
    const std::lock_guard lock(mutex_);
    if (!general_) {
        general_ = make_general_();
        make_general_ = nullptr;  // lets the graph go
    }
    return *general_;
}

void SpecialisedExecutable::export_blob(std::ostream& out) const {
    out.write(kSpecialisedBlobFormat.data(), static_cast<std::streamsize>(kSpecialisedBlobFormat.size()));
    put(out, static_cast<std::int64_t>(shapes_.size()));
    for (const Shape& shape : shapes_) {
        put(out, static_cast<std::int64_t>(shape.size()));
        for (const std::int64_t size : shape) put(out, size);
    }
    put_part(out, *fixed_);
    put_part(out, general());
}

std::optional<SpecialisedBlob> split_specialised(std::span<const std::byte> blob) {
    if (blob.size() < kSpecialisedBlobFormat.size() || std::memcmp(blob.data(), kSpecialisedBlobFormat.data(), kSpecialisedBlobFormat.size()) != 0)
        return std::nullopt;
    blob = blob.subspan(kSpecialisedBlobFormat.size());
    constexpr std::int64_t kMany = 1 << 20;
    SpecialisedBlob parts;
    parts.shapes.resize(static_cast<std::size_t>(take(blob, kMany)));
    for (Shape& shape : parts.shapes) {
        shape.resize(static_cast<std::size_t>(take(blob, 1024)));
        for (std::int64_t& size : shape) size = take(blob, INT64_MAX);
    }
    const auto fixed_bytes = static_cast<std::size_t>(take(blob, static_cast<std::int64_t>(blob.size())));
    parts.fixed = blob.first(std::min(fixed_bytes, blob.size()));
    blob = blob.subspan(parts.fixed.size());
    const auto general_bytes = static_cast<std::size_t>(take(blob, static_cast<std::int64_t>(blob.size())));
    parts.general = blob.first(std::min(general_bytes, blob.size()));
    return parts;
}

}  // namespace ai_vmm::openvino
