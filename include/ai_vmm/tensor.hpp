// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/error.hpp"

namespace ai_vmm {

/// Every element type that one of the engines has. Types under 8 bits are packed, the first element in the low bits.
enum class ElementType : std::uint8_t {
    undefined,
    boolean,  ///< 1 byte, 0 or 1
    bf16,
    f16,
    f32,
    f64,
    f8e4m3,      ///< OCP E4M3FN
    f8e4m3fnuz,  ///< E4M3FNUZ (ONNX)
    f8e5m2,      ///< OCP E5M2
    f8e5m2fnuz,  ///< E5M2FNUZ (ONNX)
    f8e8m0,      ///< OCP scale format
    f4e2m1,      ///< OCP FP4, packed
    nf4,         ///< 4-bit normal float, packed
    i2,
    i4,
    i8,
    i16,
    i32,
    i64,
    u1,
    u2,
    u4,
    u8,
    u16,
    u32,
    u64,
    complex64,   ///< two f32
    complex128,  ///< two f64
    string,      ///< std::string objects
};

/// "f32", "i4", … ; the name used in messages, JSON and the command line.
[[nodiscard]] AI_VMM_API std::string_view to_string(ElementType type) noexcept;
/// The inverse of to_string(); std::nullopt for an unknown name.
[[nodiscard]] AI_VMM_API std::optional<ElementType> element_type_from_string(std::string_view name) noexcept;
/// Bits of one element; 0 for undefined; 8 * sizeof(std::string) for string.
[[nodiscard]] AI_VMM_API std::size_t bit_width(ElementType type) noexcept;

/// The C++ type of an element type, where the language has one (f16 and bf16 are stored as their bits).
template <typename T>
struct ElementTypeOf;
template <>
struct ElementTypeOf<bool> {
    static constexpr ElementType value = ElementType::boolean;
};
template <>
struct ElementTypeOf<float> {
    static constexpr ElementType value = ElementType::f32;
};
template <>
struct ElementTypeOf<double> {
    static constexpr ElementType value = ElementType::f64;
};
template <>
struct ElementTypeOf<std::int8_t> {
    static constexpr ElementType value = ElementType::i8;
};
template <>
struct ElementTypeOf<std::int16_t> {
    static constexpr ElementType value = ElementType::i16;
};
template <>
struct ElementTypeOf<std::int32_t> {
    static constexpr ElementType value = ElementType::i32;
};
template <>
struct ElementTypeOf<std::int64_t> {
    static constexpr ElementType value = ElementType::i64;
};
template <>
struct ElementTypeOf<std::uint8_t> {
    static constexpr ElementType value = ElementType::u8;
};
template <>
struct ElementTypeOf<std::uint16_t> {
    static constexpr ElementType value = ElementType::u16;
};
template <>
struct ElementTypeOf<std::uint32_t> {
    static constexpr ElementType value = ElementType::u32;
};
template <>
struct ElementTypeOf<std::uint64_t> {
    static constexpr ElementType value = ElementType::u64;
};
template <>
struct ElementTypeOf<std::string> {
    static constexpr ElementType value = ElementType::string;
};

/// Sizes of a tensor's dimensions, outermost first. An empty shape is a scalar.
using Shape = std::vector<std::int64_t>;

/// "[1,3,224,224]"; a negative dimension prints as "?".
[[nodiscard]] AI_VMM_API std::string to_string(const Shape& shape);
/// Product of the dimensions: 1 for a scalar.
/// @throws Error(invalid_argument) a dimension is negative or the product overflows.
[[nodiscard]] AI_VMM_API std::size_t element_count(const Shape& shape);
/// Bytes that `shape` of `type` takes, contiguous and packed.
/// @throws Error(invalid_argument) as element_count(), or an undefined type.
[[nodiscard]] AI_VMM_API std::size_t size_bytes(ElementType type, const Shape& shape);

/// Whose memory holds a tensor's elements. Numbered as in DLPack.
enum class MemoryKind : std::uint8_t {
    host = 1,  ///< the process's own
    cuda = 2,  ///< of an NVIDIA GPU
};

/// Where a tensor's elements lie.
struct MemoryPlace {
    MemoryKind kind = MemoryKind::host;
    int device = 0;  ///< among those of the kind, as the process sees them (CUDA_VISIBLE_DEVICES respected); 0 for the host

    [[nodiscard]] bool is_host() const noexcept { return kind == MemoryKind::host; }
    bool operator==(const MemoryPlace&) const = default;
};
/// "host", "cuda:0".
[[nodiscard]] AI_VMM_API std::string to_string(const MemoryPlace& place);

/// A dense, contiguous, row-major tensor in host memory or in a device's: a handle to memory that it owns or borrows.
///
/// Elements in a device's memory can't be reached through data() on the host: VMM::copy() brings them here. An execution waits for what the default
/// stream of their device has been given before it was called, and its own outputs there are complete when it returns.
///
/// Copying a Tensor copies the handle, not the elements: both see the same memory (clone() copies elements).
/// Distinct handles may be used from distinct threads; writing to elements that another thread reads is the
/// caller's race. An empty Tensor (default-constructed) has type `undefined` and no memory.
class AI_VMM_API Tensor {
public:
    Tensor() = default;

    /// Owns new memory, 64-byte aligned. Elements are zero (empty strings).
    /// @throws Error(invalid_argument) undefined type, negative dimension or overflow.
    /// @throws Error(resource_exhausted) the memory can't be allocated; the message has the bytes.
    Tensor(ElementType type, Shape shape);

    /// Borrows `data` (size_bytes() bytes, or element_count() std::string objects for `string`).
    /// The memory must outlive every handle and every execution that uses it, or be kept alive by `keep_alive`,
    /// which is released with the last handle.
    [[nodiscard]] static Tensor borrow(ElementType type, Shape shape, void* data, std::shared_ptr<const void> keep_alive = nullptr);

    /// As above, of a device's memory: `data` is an address there.
    [[nodiscard]] static Tensor borrow(ElementType type, Shape shape, void* data, MemoryPlace place, std::shared_ptr<const void> keep_alive);

    /// An empty tensor that asks for a place: as an output of an execution it is replaced by one whose elements lie there.
    [[nodiscard]] static Tensor wanted_in(MemoryPlace place) noexcept {
        Tensor tensor;
        tensor.place_ = place;
        return tensor;
    }

    /// Takes over memory that `owner` holds for this tensor alone, such as an engine's result; released with the last handle.
    [[nodiscard]] static Tensor adopt(ElementType type, Shape shape, void* data, std::shared_ptr<const void> owner);

    /// Owns a copy of `values`.
    /// @throws Error(invalid_argument) the count differs from the shape's.
    template <typename T>
    [[nodiscard]] static Tensor from(Shape shape, std::span<const T> values) {
        Tensor tensor(ElementTypeOf<T>::value, std::move(shape));
        tensor.fill_from(values.data(), values.size());
        return tensor;
    }
    template <typename T>
    [[nodiscard]] static Tensor from(Shape shape, std::initializer_list<T> values) {
        return from(std::move(shape), std::span<const T>(values.begin(), values.size()));
    }

    [[nodiscard]] bool empty() const noexcept { return type_ == ElementType::undefined; }
    [[nodiscard]] ElementType type() const noexcept { return type_; }
    [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::size_t element_count() const noexcept { return count_; }
    /// Bytes of the elements; for `string` the bytes of the std::string objects themselves.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_; }
    [[nodiscard]] void* data() noexcept { return data_; }
    [[nodiscard]] const void* data() const noexcept { return data_; }
    [[nodiscard]] const MemoryPlace& place() const noexcept { return place_; }
    /// False if the memory is another object's (borrow()).
    [[nodiscard]] bool owns_memory() const noexcept { return owned_; }
    /// What keeps the memory alive: the own allocation or the `keep_alive` of borrow(); may be null when borrowing.
    [[nodiscard]] const std::shared_ptr<const void>& keep_alive() const noexcept { return storage_; }

    /// Typed view of the elements.
    /// @throws Error(invalid_argument) T is not the element type, or the elements are not in host memory.
    template <typename T>
    [[nodiscard]] std::span<T> as() {
        check_type(ElementTypeOf<T>::value);
        return {static_cast<T*>(data_), count_};
    }
    template <typename T>
    [[nodiscard]] std::span<const T> as() const {
        check_type(ElementTypeOf<T>::value);
        return {static_cast<const T*>(data_), count_};
    }

    /// A new tensor that owns a copy of the elements.
    /// @throws Error(invalid_argument) they are not in host memory.
    [[nodiscard]] Tensor clone() const;
    /// The same memory with another shape of the same element count.
    /// @throws Error(invalid_argument) the counts differ.
    [[nodiscard]] Tensor reshaped(Shape shape) const;

private:
    void check_type(ElementType wanted) const;
    void check_host() const;
    void fill_from(const void* values, std::size_t count);

    ElementType type_ = ElementType::undefined;
    bool owned_ = false;
    MemoryPlace place_;
    Shape shape_;
    std::size_t count_ = 0;
    std::size_t bytes_ = 0;
    void* data_ = nullptr;
    std::shared_ptr<const void> storage_;
};

/// Tensors by name, in order. Small and flat: look-up is linear, as models have few inputs.
class AI_VMM_API TensorMap {
public:
    using value_type = std::pair<std::string, Tensor>;

    TensorMap() = default;
    TensorMap(std::initializer_list<value_type> entries) : entries_(entries) {}

    /// The tensor of that name, or nullptr.
    [[nodiscard]] const Tensor* find(std::string_view name) const noexcept;
    /// @throws Error(not_found) no such name; the message lists the names there are.
    [[nodiscard]] const Tensor& at(std::string_view name) const;
    [[nodiscard]] const Tensor& operator[](std::string_view name) const { return at(name); }
    /// Adds the tensor, or replaces the one of that name.
    void set(std::string name, Tensor tensor);
    /// Adds without looking for an equal name.
    void push_back(std::string name, Tensor tensor) { entries_.emplace_back(std::move(name), std::move(tensor)); }

    /// Room for so many tensors.
    void reserve(std::size_t count) { entries_.reserve(count); }

    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    [[nodiscard]] auto begin() const noexcept { return entries_.begin(); }
    [[nodiscard]] auto end() const noexcept { return entries_.end(); }
    [[nodiscard]] auto begin() noexcept { return entries_.begin(); }
    [[nodiscard]] auto end() noexcept { return entries_.end(); }

private:
    std::vector<value_type> entries_;
};

}  // namespace ai_vmm
