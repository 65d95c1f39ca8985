// SPDX-License-Identifier: Apache-2.0
#include "device_memory.hpp"

#include <cstring>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {

Tensor TensorMemory::make(ElementType type, const Shape& shape) {
    const std::size_t bytes = size_bytes(type, shape);
    Buffer buffer;
    bool used = false;
    {
        const std::lock_guard lock(mutex_);
        if (auto found = idle_.find(bytes); found != idle_.end()) {
            idle_bytes_ -= bytes;
            buffer = std::move(found->second);
            idle_.erase(found);
            used = true;
        }
    }
    if (used) {
        device_->synchronize();  // whoever let go of it may have left work that reads it
    } else {
        try {
            buffer = Buffer(device_, bytes);
        } catch (const Error& error) {
            if (error.code() != ErrorCode::resource_exhausted) throw;
            {
                const std::lock_guard lock(mutex_);
                idle_.clear();
                idle_bytes_ = 0;
            }
            buffer = Buffer(device_, bytes);
        }
    }
    auto* const data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(buffer.get()));
    const std::shared_ptr<Buffer> held(new Buffer(std::move(buffer)), [memory = shared_from_this()](Buffer* last) {
        memory->put_back(std::move(*last));
        delete last;
    });
    return Tensor::borrow(type, shape, data, MemoryPlace{MemoryKind::cuda, device_->ordinal()}, held);
}

void TensorMemory::put_back(Buffer buffer) noexcept {
    const std::size_t bytes = buffer.bytes();
    if (bytes == 0) return;
    try {
        const std::lock_guard lock(mutex_);
        if (idle_bytes_ + bytes > kMostIdleBytes) return;
        idle_.emplace(bytes, std::move(buffer));
        idle_bytes_ += bytes;
    } catch (const std::exception&) {  // no memory for the entry: the buffer is released
    }
}

Endpoint endpoint_of(const Tensor& tensor, const Device& home, const FindMemory& find) {
    if (tensor.place().is_host()) return {.host = const_cast<void*>(tensor.data())};
    Device& owner = find(tensor.place().device).device();
    const auto address = static_cast<DevicePtr>(reinterpret_cast<std::uintptr_t>(tensor.data()));
    if (tensor.size_bytes() != 0 && !owner.owns(address, tensor.size_bytes())) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "a tensor's address is not memory of the device that it names",
                    {.expected = std::to_string(tensor.size_bytes()) + " bytes of " + to_string(tensor.place()), .found = {}, .advice = {}});
    }
    return {.device = address, .owner = &owner == &home ? nullptr : &owner};
}

void copy_tensor(const Tensor& from, Tensor& to, const FindMemory& find) {
    if (from.empty()) throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "an empty tensor can't be copied");
    if (to.empty()) {
        to = to.place().is_host() ? Tensor(from.type(), from.shape()) : find(to.place().device).make(from.type(), from.shape());
    } else if (to.type() != from.type() || to.shape() != from.shape()) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "a tensor is copied to one of another type or shape",
                    {.expected = std::string(to_string(from.type())) + " " + ai_vmm::to_string(from.shape()),
                     .found = std::string(to_string(to.type())) + " " + ai_vmm::to_string(to.shape()),
                     .advice = {}});
    }
    const std::size_t bytes = from.size_bytes();
    if (bytes == 0) return;
    if (from.place().is_host() && to.place().is_host()) {
        std::memcpy(to.data(), from.data(), bytes);
        return;
    }
    Device& device = find((from.place().is_host() ? to : from).place().device).device();
    const Endpoint source = endpoint_of(from, device, find), target = endpoint_of(to, device, find);
    const auto stream = device.create_stream();
    if (!from.place().is_host()) stream->wait_for_default();
    if (source.host != nullptr) {
        stream->upload(target.device, source.host, bytes);
    } else if (target.host != nullptr) {
        stream->download(target.host, source.device, bytes);
    } else if (target.owner == nullptr) {
        stream->copy(target.device, source.device, bytes);
    } else {
        stream->copy_across(target.device, *target.owner, source.device, device, bytes);
    }
    stream->synchronize();
}

}  // namespace ai_vmm::cuda
