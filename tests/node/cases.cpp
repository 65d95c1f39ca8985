// SPDX-License-Identifier: Apache-2.0
#include "node/cases.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <complex>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace ai_vmm::node_test {
namespace fs = std::filesystem;
namespace {

std::string read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw std::runtime_error("can't read " + path.string());
    return content;
}

/// What the codes of a floating-point format with no more than 16 bits stand for beside numbers.
enum class Specials {
    none,
    ieee,       ///< the greatest exponent is for infinities and NaN
    only_nan,   ///< all ones but the sign is NaN
    minus_zero  ///< the code of -0 is NaN
};

double decode(std::uint32_t code, int exponent_bits, int mantissa_bits, int bias, Specials specials) {
    const std::uint32_t mantissa = code & ((1U << mantissa_bits) - 1);
    const std::uint32_t greatest = (1U << exponent_bits) - 1;
    const std::uint32_t exponent = (code >> mantissa_bits) & greatest;
    const std::uint32_t sign = (code >> (mantissa_bits + exponent_bits)) & 1;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (specials == Specials::minus_zero && sign == 1 && exponent == 0 && mantissa == 0) return nan;
    if (specials == Specials::only_nan && exponent == greatest && mantissa == (1U << mantissa_bits) - 1) return nan;
    double value = 0;
    if (specials == Specials::ieee && exponent == greatest) {
        value = mantissa != 0 ? nan : std::numeric_limits<double>::infinity();
    } else if (exponent == 0) {
        value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
    } else {
        value = std::ldexp((1U << mantissa_bits) + mantissa, static_cast<int>(exponent) - bias - mantissa_bits);
    }
    return sign == 1 ? -value : value;
}

template <typename T>
T load(const Tensor& tensor, std::size_t index) {
    T value;
    std::memcpy(&value, static_cast<const char*>(tensor.data()) + index * sizeof(T), sizeof(T));
    return value;
}

std::uint32_t load_packed(const Tensor& tensor, std::size_t index) {
    const std::size_t bits = bit_width(tensor.type());
    const auto byte = static_cast<const std::uint8_t*>(tensor.data())[index * bits / 8];
    return (static_cast<std::uint32_t>(byte) >> (index * bits % 8)) & ((1U << bits) - 1);
}

double sign_extended(std::uint32_t code, int bits) {
    return static_cast<double>(code) - ((code >> (bits - 1)) != 0 ? static_cast<double>(1U << bits) : 0.0);
}

std::complex<double> element(const Tensor& tensor, std::size_t index) {
    switch (tensor.type()) {
        case ElementType::boolean: return load<std::uint8_t>(tensor, index) != 0 ? 1.0 : 0.0;
        case ElementType::bf16: return std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(tensor, index)) << 16);
        case ElementType::f16: return decode(load<std::uint16_t>(tensor, index), 5, 10, 15, Specials::ieee);
        case ElementType::f32: return load<float>(tensor, index);
        case ElementType::f64: return load<double>(tensor, index);
        case ElementType::f8e4m3: return decode(load<std::uint8_t>(tensor, index), 4, 3, 7, Specials::only_nan);
        case ElementType::f8e4m3fnuz: return decode(load<std::uint8_t>(tensor, index), 4, 3, 8, Specials::minus_zero);
        case ElementType::f8e5m2: return decode(load<std::uint8_t>(tensor, index), 5, 2, 15, Specials::ieee);
        case ElementType::f8e5m2fnuz: return decode(load<std::uint8_t>(tensor, index), 5, 2, 16, Specials::minus_zero);
        case ElementType::f8e8m0: {
            const int exponent = load<std::uint8_t>(tensor, index);
            return exponent == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, exponent - 127);
        }
        case ElementType::f4e2m1: return decode(load_packed(tensor, index), 2, 1, 1, Specials::none);
        case ElementType::i2: return sign_extended(load_packed(tensor, index), 2);
        case ElementType::i4: return sign_extended(load_packed(tensor, index), 4);
        case ElementType::u1:
        case ElementType::u2:
        case ElementType::u4: return load_packed(tensor, index);
        case ElementType::i8: return load<std::int8_t>(tensor, index);
        case ElementType::i16: return load<std::int16_t>(tensor, index);
        case ElementType::i32: return load<std::int32_t>(tensor, index);
        case ElementType::i64: return static_cast<double>(load<std::int64_t>(tensor, index));
        case ElementType::u8: return load<std::uint8_t>(tensor, index);
        case ElementType::u16: return load<std::uint16_t>(tensor, index);
        case ElementType::u32: return load<std::uint32_t>(tensor, index);
        case ElementType::u64: return static_cast<double>(load<std::uint64_t>(tensor, index));
        case ElementType::complex64: return load<std::complex<float>>(tensor, index);
        case ElementType::complex128: return load<std::complex<double>>(tensor, index);
        case ElementType::undefined:
        case ElementType::nf4:
        case ElementType::string: break;
    }
    throw std::runtime_error(fmt::format("no comparison of {} elements", to_string(tensor.type())));
}

bool close(std::complex<double> actual, std::complex<double> expected, double rtol, double atol) {
    const auto is_nan = [](std::complex<double> value) { return std::isnan(value.real()) || std::isnan(value.imag()); };
    const auto is_finite = [](std::complex<double> value) { return std::isfinite(value.real()) && std::isfinite(value.imag()); };
    if (is_nan(actual) || is_nan(expected)) return is_nan(actual) && is_nan(expected);
    if (!is_finite(actual) || !is_finite(expected)) return actual == expected;
    return std::abs(actual - expected) <= atol + rtol * std::abs(expected);
}

std::string show(std::complex<double> value) {
    return value.imag() == 0 ? fmt::format("{}", value.real()) : fmt::format("{}{:+}i", value.real(), value.imag());
}

}  // namespace

std::vector<NamedTensor> Case::read(const std::vector<Entry>& entries, const fs::path& prefix) {
    std::vector<NamedTensor> tensors;
    for (const Entry& entry : entries) {
        if (entry.type == ElementType::string) {
            tensors.push_back({entry.name, Tensor::from<std::string>(entry.shape, std::span<const std::string>(entry.strings))});
            continue;
        }
        const fs::path path = fmt::format("{}_{}.bin", prefix.string(), tensors.size());
        const std::string bytes = read_file(path);
        Tensor tensor(entry.type, entry.shape);
        if (bytes.size() != tensor.size_bytes()) {
            throw std::runtime_error(fmt::format("{} has {} bytes, {} {} takes {}", path.string(), bytes.size(), to_string(entry.type),
                                                 to_string(entry.shape), tensor.size_bytes()));
        }
        if (!bytes.empty()) std::memcpy(tensor.data(), bytes.data(), bytes.size());
        tensors.push_back({entry.name, std::move(tensor)});
    }
    return tensors;
}

std::string Case::model() const { return read_file(folder_ / "model.onnx"); }

std::vector<DataSet> Case::data_sets() const {
    std::vector<DataSet> sets;
    for (const Entries& entries : sets_) {
        const fs::path files = folder_ / fmt::format("set_{}", sets.size());
        sets.push_back({read(entries.inputs, files / "in"), read(entries.outputs, files / "out")});
    }
    return sets;
}

std::vector<Case> read_cases(const fs::path& folder) {
    const auto read_entries = [](const nlohmann::json& list) {
        std::vector<Case::Entry> entries;
        for (const nlohmann::json& item : list) {
            const auto type = element_type_from_string(item.at("type").get<std::string>());
            if (!type) throw std::runtime_error("cases.json: unknown element type " + item.at("type").dump());
            entries.push_back({item.at("name"), *type, item.at("shape"), item.value("strings", std::vector<std::string>{})});
        }
        return entries;
    };
    std::vector<Case> cases;
    const auto root = nlohmann::json::parse(read_file(folder / "cases.json"));
    for (const nlohmann::json& item : root.at("cases")) {
        Case test;
        test.name = item.at("name");
        test.rtol = item.at("rtol");
        test.atol = item.at("atol");
        test.folder_ = folder / test.name;
        for (const nlohmann::json& set : item.at("sets")) test.sets_.push_back({read_entries(set.at("inputs")), read_entries(set.at("outputs"))});
        cases.push_back(std::move(test));
    }
    return cases;
}

std::string compare(const Tensor& actual, const Tensor& expected, double rtol, double atol) {
    if (actual.shape() != expected.shape()) return fmt::format("shape {}, expected {}", to_string(actual.shape()), to_string(expected.shape()));
    if (actual.type() != expected.type()) return fmt::format("type {}, expected {}", to_string(actual.type()), to_string(expected.type()));
    const std::size_t count = expected.element_count();
    std::size_t mismatches = 0;
    std::string first;
    const auto note = [&](std::size_t index, const std::string& found, const std::string& wanted) {
        if (mismatches++ == 0) first = fmt::format("first at element {}: {}, expected {}", index, found, wanted);
    };
    for (std::size_t i = 0; i < count; ++i) {
        if (expected.type() == ElementType::string) {
            const std::string &found = actual.as<std::string>()[i], &wanted = expected.as<std::string>()[i];
            if (found != wanted) note(i, "'" + found + "'", "'" + wanted + "'");
        } else {
            const std::complex<double> found = element(actual, i), wanted = element(expected, i);
            if (!close(found, wanted, rtol, atol)) note(i, show(found), show(wanted));
        }
    }
    if (mismatches == 0) return {};
    return fmt::format("{} of {} elements differ, {}", mismatches, count, first);
}

}  // namespace ai_vmm::node_test
