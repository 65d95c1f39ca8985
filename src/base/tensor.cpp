// SPDX-License-Identifier: Apache-2.0
#include "ai_vmm/tensor.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace ai_vmm {
namespace {

constexpr std::size_t kAlignment = 64;

[[noreturn]] void throw_input(std::string message, ErrorDetail detail = {}) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, std::move(message), std::move(detail));
}

std::size_t bytes_of(ElementType type, std::size_t count) {
    const std::size_t bits = bit_width(type);
    if (bits == 0) throw_input("a tensor needs an element type", {.expected = {}, .found = "undefined", .advice = {}});
    if (count > std::numeric_limits<std::size_t>::max() / 2 / bits) {
        throw_input("tensor size overflows", {.expected = "a tensor of less than 2^60 bytes",
                                              .found = std::to_string(count) + " elements of " + std::string(to_string(type)),
                                              .advice = {}});
    }
    return (count * bits + 7) / 8;
}

/// Zeroed, 64-byte aligned memory. Large blocks come as fresh pages, which cost nothing until they are touched.
std::shared_ptr<const void> allocate_zeroed(std::size_t bytes) {
    constexpr std::size_t kLargeBytes = std::size_t{64} << 20;
    const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
    if (rounded >= kLargeBytes) {
        void* pages = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages != MAP_FAILED) return {pages, [rounded](const void* p) { ::munmap(const_cast<void*>(p), rounded); }};
    } else if (void* memory = std::aligned_alloc(kAlignment, rounded)) {
        std::memset(memory, 0, rounded);
        return {memory, [](const void* p) { std::free(const_cast<void*>(p)); }};
    }
    throw Error(ErrorCode::resource_exhausted, ErrorCategory::system, "no memory for a tensor of " + std::to_string(bytes) + " bytes");
}

}  // namespace

std::string to_string(const Shape& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ',';
        text += shape[i] < 0 ? "?" : std::to_string(shape[i]);
    }
    return text += ']';
}

std::string to_string(const MemoryPlace& place) { return place.is_host() ? "host" : "cuda:" + std::to_string(place.device); }

std::size_t element_count(const Shape& shape) {
    constexpr auto kMax = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
    std::size_t count = 1;
    bool zero = false;
    for (const std::int64_t size : shape) {
        if (size < 0) throw_input("negative dimension in a shape", {.expected = "sizes of 0 or more", .found = to_string(shape), .advice = {}});
        zero |= size == 0;
        if (size > 0 && count > kMax / static_cast<std::size_t>(size)) {
            throw_input("element count overflows", {.expected = "a shape of less than 2^63 elements", .found = to_string(shape), .advice = {}});
        }
        if (size > 0) count *= static_cast<std::size_t>(size);
    }
    return zero ? 0 : count;
}

std::size_t size_bytes(ElementType type, const Shape& shape) { return bytes_of(type, element_count(shape)); }

Tensor::Tensor(ElementType type, Shape shape) : type_(type), owned_(true), shape_(std::move(shape)) {
    count_ = ai_vmm::element_count(shape_);
    bytes_ = bytes_of(type_, count_);
    if (type_ == ElementType::string) {
        auto strings = std::make_shared<std::vector<std::string>>(count_);
        data_ = strings->data();
        storage_ = std::move(strings);
        return;
    }
    storage_ = allocate_zeroed(bytes_);
    data_ = const_cast<void*>(storage_.get());
}

Tensor Tensor::borrow(ElementType type, Shape shape, void* data, std::shared_ptr<const void> keep_alive) {
    Tensor tensor;
    tensor.type_ = type;
    tensor.shape_ = std::move(shape);
    tensor.count_ = ai_vmm::element_count(tensor.shape_);
    tensor.bytes_ = bytes_of(type, tensor.count_);
    if (data == nullptr && tensor.bytes_ > 0) throw_input("a tensor of " + std::to_string(tensor.bytes_) + " bytes can't borrow a null pointer");
    tensor.data_ = data;
    tensor.storage_ = std::move(keep_alive);
    return tensor;
}

Tensor Tensor::borrow(ElementType type, Shape shape, void* data, MemoryPlace place, std::shared_ptr<const void> keep_alive) {
    if (place.device < 0 || (place.is_host() && place.device != 0)) {
        throw_input("there is no such place for a tensor", {.expected = "the host, or a device's number from 0",
                                                            .found = to_string(place) + ", device " + std::to_string(place.device),
                                                            .advice = {}});
    }
    if (!place.is_host() && bit_width(type) % 8 != 0) throw_input("packed elements are for host memory alone");
    if (!place.is_host() && type == ElementType::string) throw_input("strings are for host memory alone");
    Tensor tensor = borrow(type, std::move(shape), data, std::move(keep_alive));
    tensor.place_ = place;
    return tensor;
}

Tensor Tensor::adopt(ElementType type, Shape shape, void* data, std::shared_ptr<const void> owner) {
    if (!owner) throw_input("a tensor can't take over memory that nothing holds");
    Tensor tensor = borrow(type, std::move(shape), data, std::move(owner));
    tensor.owned_ = true;
    return tensor;
}

Tensor Tensor::clone() const {
    if (empty()) return {};
    check_host();
    Tensor copy(type_, shape_);
    copy.fill_from(data_, count_);
    return copy;
}

Tensor Tensor::reshaped(Shape shape) const {
    if (ai_vmm::element_count(shape) != count_) {
        throw_input("a reshaped tensor must keep its element count", {.expected = to_string(shape_), .found = to_string(shape), .advice = {}});
    }
    Tensor other = *this;
    other.shape_ = std::move(shape);
    return other;
}

void Tensor::check_host() const {
    if (place_.is_host()) return;
    throw_input("the tensor's elements are not in host memory",
                {.expected = "host", .found = to_string(place_), .advice = "copy it first: VMM::copy()"});
}

void Tensor::check_type(ElementType wanted) const {
    check_host();
    if (type_ == wanted) return;
    throw_input("the tensor has another element type",
                {.expected = std::string(to_string(wanted)), .found = std::string(to_string(type_)), .advice = {}});
}

void Tensor::fill_from(const void* values, std::size_t count) {
    if (count != count_) {
        throw_input("the number of values differs from the shape " + to_string(shape_),
                    {.expected = std::to_string(count_), .found = std::to_string(count), .advice = {}});
    }
    if (type_ == ElementType::string) {
        std::copy_n(static_cast<const std::string*>(values), count, static_cast<std::string*>(data_));
    } else if (bytes_ > 0) {
        std::memcpy(data_, values, bytes_);
    }
}

const Tensor* TensorMap::find(std::string_view name) const noexcept {
    const auto found = std::ranges::find(entries_, name, &value_type::first);
    return found == entries_.end() ? nullptr : &found->second;
}

const Tensor& TensorMap::at(std::string_view name) const {
    if (const Tensor* tensor = find(name)) return *tensor;
    std::string names;
    for (const auto& [known, tensor] : entries_) names.append(names.empty() ? "'" : ", '").append(known).append("'");
    throw Error(ErrorCode::not_found, ErrorCategory::input, "no tensor named '" + std::string(name) + "'",
                {.expected = names.empty() ? "nothing: the map is empty" : "one of " + names, .found = {}, .advice = {}});
}

void TensorMap::set(std::string name, Tensor tensor) {
    const auto found = std::ranges::find(entries_, name, &value_type::first);
    if (found == entries_.end()) {
        entries_.emplace_back(std::move(name), std::move(tensor));
    } else {
        found->second = std::move(tensor);
    }
}

}  // namespace ai_vmm
