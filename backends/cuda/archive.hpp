// SPDX-License-Identifier: Apache-2.0
/// Plain values as bytes of the same kind of machine, and back; types add an overload of fields(archive, value) that lists their members.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda {

template <typename T>
concept Plain = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class Writer {
public:
    explicit Writer(std::ostream& out) : out_(out) {}

    template <typename... T>
    void operator()(T&... values) {
        (put(values), ...);
    }
    template <typename... T>
    void choice(std::variant<T...>& value) {
        number(value.index());
        std::visit([this](auto& which) { this->put(which); }, value);
    }
    void bytes(std::span<const std::byte> content) {
        number(content.size());
        write(content.data(), content.size());
    }

private:
    void write(const void* data, std::size_t size) { out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(size)); }
    void number(std::uint64_t value) { write(&value, sizeof value); }
    template <typename T>
    void put(T& value) {
        if constexpr (Plain<T>) {
            write(&value, sizeof value);
        } else {
            fields(*this, value);
        }
    }
    void put(std::string& text) {
        number(text.size());
        write(text.data(), text.size());
    }
    template <typename T>
    void put(std::vector<T>& values) {
        number(values.size());
        for (T& value : values) put(value);
    }
    template <typename T>
    void put(std::optional<T>& value) {
        number(value.has_value() ? 1 : 0);
        if (value) put(*value);
    }
    template <typename K, typename V>
    void put(std::map<K, V>& values) {
        number(values.size());
        for (auto& [key, value] : values) {
            K copy = key;
            put(copy);
            put(value);
        }
    }

    std::ostream& out_;
};

/// @throws Error(data_loss) from every member: the bytes end early, a count is larger than what is left, or a choice is none.
class Reader {
public:
    explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

    template <typename... T>
    void operator()(T&... values) {
        (get(values), ...);
    }
    template <typename... T>
    void choice(std::variant<T...>& value) {
        const std::uint64_t index = number();
        std::uint64_t k = 0;
        const bool found = ((index == k++ && (get(value.template emplace<T>()), true)) || ...);
        if (!found) damaged();
    }
    [[nodiscard]] std::span<const std::byte> bytes() { return take(number()); }
    /// What was not read yet.
    [[nodiscard]] std::span<const std::byte> rest() const noexcept { return rest_; }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }

private:
    [[noreturn]] static void damaged() {
        throw Error(ErrorCode::data_loss, ErrorCategory::compilation, "the stored program is damaged: it ends early");
    }
    std::span<const std::byte> take(std::uint64_t size) {
        if (size > rest_.size()) damaged();
        const std::span<const std::byte> part = rest_.first(static_cast<std::size_t>(size));
        rest_ = rest_.subspan(static_cast<std::size_t>(size));
        return part;
    }
    std::uint64_t number() {
        std::uint64_t value = 0;
        std::memcpy(&value, take(sizeof value).data(), sizeof value);
        return value;
    }
    /// Every element takes a byte at least.
    std::size_t count() {
        const std::uint64_t value = number();
        if (value > rest_.size()) damaged();
        return static_cast<std::size_t>(value);
    }
    template <typename T>
    void get(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            const auto byte = static_cast<unsigned char>(take(1).front());
            if (byte > 1) damaged();
            value = byte != 0;
        } else if constexpr (Plain<T>) {
            std::memcpy(&value, take(sizeof value).data(), sizeof value);
        } else {
            fields(*this, value);
        }
    }
    void get(std::string& text) {
        const auto part = take(number());
        text.assign(reinterpret_cast<const char*>(part.data()), part.size());
    }
    template <typename T>
    void get(std::vector<T>& values) {
        const std::size_t size = count();
        values.clear();
        for (std::size_t k = 0; k < size; ++k) get(values.emplace_back());
    }
    template <typename T>
    void get(std::optional<T>& value) {
        const std::uint64_t there = number();
        if (there > 1) damaged();
        value.reset();
        if (there != 0) get(value.emplace());
    }
    template <typename K, typename V>
    void get(std::map<K, V>& values) {
        values.clear();
        for (std::size_t k = count(); k > 0; --k) {
            K key{};
            get(key);
            get(values[key]);
        }
    }

    std::span<const std::byte> rest_;
};

}  // namespace ai_vmm::cuda
