// SPDX-License-Identifier: Apache-2.0
#include "io/values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>

#include "io/file.hpp"

namespace ai_vmm::cli {
namespace {

template <typename T>
T element(const Tensor& tensor, std::size_t index) {
    T value;
    std::memcpy(&value, static_cast<const char*>(tensor.data()) + index * sizeof(T), sizeof(T));
    return value;
}

template <typename T>
void put(Tensor& tensor, std::size_t index, T value) {
    std::memcpy(static_cast<char*>(tensor.data()) + index * sizeof(T), &value, sizeof(T));
}

/// Range of an integer type as doubles; u64 and i64 are rounded outwards by one.
struct Range {
    double low;
    double high;
};
Range integer_range(ElementType type) {
    switch (type) {
        case ElementType::boolean:
        case ElementType::u1: return {0, 1};
        case ElementType::i2: return {-2, 1};
        case ElementType::u2: return {0, 3};
        case ElementType::i4: return {-8, 7};
        case ElementType::u4: return {0, 15};
        case ElementType::i8: return {-128, 127};
        case ElementType::u8: return {0, 255};
        case ElementType::i16: return {-32768, 32767};
        case ElementType::u16: return {0, 65535};
        case ElementType::i32: return {-2147483648.0, 2147483647.0};
        case ElementType::u32: return {0, 4294967295.0};
        case ElementType::i64: return {-9223372036854775808.0, 9223372036854774784.0};
        case ElementType::u64: return {0, 18446744073709549568.0};
        default: return {0, 0};
    }
}

[[noreturn]] void refuse_type(std::string_view doing, ElementType type) {
    throw input_error(fmt::format("can't {} elements of type {}", doing, to_string(type)));
}

/// An integer element exactly; u64 above the range of i64 wraps.
std::int64_t integer_at(const Tensor& tensor, std::size_t index) {
    if (tensor.type() == ElementType::i64) return element<std::int64_t>(tensor, index);
    if (tensor.type() == ElementType::u64) return static_cast<std::int64_t>(element<std::uint64_t>(tensor, index));
    if (!is_integer(tensor.type())) refuse_type("read as integers", tensor.type());
    return static_cast<std::int64_t>(element_at(tensor.type(), tensor.data(), index));
}

void store_integer(Tensor& tensor, std::size_t index, std::int64_t value) {
    if (tensor.type() == ElementType::i64 || tensor.type() == ElementType::u64) return put(tensor, index, value);
    if (!is_integer(tensor.type())) refuse_type("write integers to", tensor.type());
    store_element(tensor.type(), tensor.data(), index, static_cast<double>(value));
}

bool writable_float(ElementType type) {
    return type == ElementType::f32 || type == ElementType::f64 || type == ElementType::f16 || type == ElementType::bf16;
}

}  // namespace

bool is_floating(ElementType type) noexcept { return is_float(type) && !is_complex(type); }

bool is_integer(ElementType type) noexcept { return !is_float(type) && type != ElementType::string && type != ElementType::undefined; }

double value_at(const Tensor& tensor, std::size_t index) {
    switch (tensor.type()) {
        case ElementType::complex64: return std::abs(element<std::complex<float>>(tensor, index));
        case ElementType::complex128: return std::abs(element<std::complex<double>>(tensor, index));
        case ElementType::string:
        case ElementType::undefined: return std::numeric_limits<double>::quiet_NaN();
        default: return element_at(tensor.type(), tensor.data(), index);
    }
}

std::string text_at(const Tensor& tensor, std::size_t index) {
    switch (tensor.type()) {
        case ElementType::string: return fmt::format("\"{}\"", tensor.as<std::string>()[index]);
        case ElementType::boolean: return integer_at(tensor, index) != 0 ? "true" : "false";
        case ElementType::u64: return std::to_string(element<std::uint64_t>(tensor, index));
        case ElementType::complex64: {
            const auto value = element<std::complex<float>>(tensor, index);
            return fmt::format("{:.5g}{:+.5g}j", value.real(), value.imag());
        }
        case ElementType::complex128: {
            const auto value = element<std::complex<double>>(tensor, index);
            return fmt::format("{:.5g}{:+.5g}j", value.real(), value.imag());
        }
        default: break;
    }
    if (is_integer(tensor.type())) return std::to_string(integer_at(tensor, index));
    return fmt::format("{:.5g}", value_at(tensor, index));
}

void store(Tensor& tensor, std::size_t index, double value) {
    if (!is_integer(tensor.type()) && !writable_float(tensor.type())) refuse_type("write numbers to", tensor.type());
    store_element(tensor.type(), tensor.data(), index, value);
}

Tensor cast(const Tensor& tensor, ElementType type) {
    if (tensor.type() == type) return tensor;
    const bool from_number = is_integer(tensor.type()) || is_floating(tensor.type());
    if (!from_number || (!is_integer(type) && !writable_float(type))) {
        throw input_error(fmt::format("no conversion from {} to {}", to_string(tensor.type()), to_string(type)),
                          {.expected = std::string(to_string(type)), .found = std::string(to_string(tensor.type())), .advice = {}});
    }
    Tensor out(type, tensor.shape());
    const bool integers = is_integer(tensor.type()) && is_integer(type);
    const Range range = integer_range(type);
    for (std::size_t i = 0; i < tensor.element_count(); ++i) {
        const auto misfit = [&] {
            return input_error(fmt::format("value {} at index {} does not fit {}", text_at(tensor, i), i, to_string(type)),
                               {.expected = fmt::format("{} to {}", range.low, range.high), .found = text_at(tensor, i), .advice = {}});
        };
        if (integers) {
            const std::int64_t value = integer_at(tensor, i);
            const bool huge = tensor.type() == ElementType::u64 && value < 0;  // at least 2^63
            if (type == ElementType::u64 ? (value < 0 && !huge) : huge) throw misfit();
            const bool wide = type == ElementType::i64 || type == ElementType::u64;
            if (!wide && (static_cast<double>(value) < range.low || static_cast<double>(value) > range.high)) throw misfit();
            store_integer(out, i, value);
            continue;
        }
        const double value = value_at(tensor, i);
        if (is_integer(type) && (std::isnan(value) || value != std::nearbyint(value) || value < range.low || value > range.high)) throw misfit();
        store(out, i, value);
    }
    return out;
}

bool looks_like_numbers(std::string_view text) {
    if (text.empty()) return false;
    std::size_t at = 0;
    while (at <= text.size()) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        std::string_view word = text.substr(at, end - at);
        while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
        while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
        if (!word.empty() && word.front() == '+') word.remove_prefix(1);
        if (word == "true" || word == "false") {
            at = end + 1;
            continue;
        }
        double value = 0;
        const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (word.empty() || stop != word.data() + word.size() || error == std::errc::invalid_argument) return false;
        at = end + 1;
    }
    return true;
}

Tensor tensor_from_text(std::string_view text, const TensorInfo& info) {
    const auto shape_for = [&](std::size_t count) {
        if (!info.rank_known) return count == 1 ? Shape{} : Shape{static_cast<std::int64_t>(count)};
        Shape shape = info.shape;
        std::size_t known = 1;
        auto free_dimension = shape.end();
        for (auto it = shape.begin(); it != shape.end(); ++it) {
            if (*it >= 0) {
                known *= static_cast<std::size_t>(*it);
            } else {
                *it = 1;
                free_dimension = it;  // the last one takes what is left: a batch in front stays 1
            }
        }
        if (free_dimension != shape.end() && known != 0 && count % known == 0) *free_dimension = static_cast<std::int64_t>(count / known);
        if (element_count(shape) != count) {
            throw input_error(fmt::format("{} value{} do{} not fill input '{}'", count, count == 1 ? "" : "s", count == 1 ? "es" : "", info.name),
                              {.expected = fmt::format("shape {}", to_string(info.shape)), .found = fmt::format("{} values", count), .advice = {}});
        }
        return shape;
    };
    if (info.type == ElementType::string) {
        Tensor tensor(ElementType::string, shape_for(1));
        tensor.as<std::string>()[0] = std::string(text);
        return tensor;
    }
    std::vector<std::string_view> words;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        std::string_view word = text.substr(at, end - at);
        while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
        while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
        words.push_back(word);
        at = end + 1;
    }
    Tensor tensor(info.type, shape_for(words.size()));
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string_view word = words[i];
        if (!word.empty() && word.front() == '+') word.remove_prefix(1);
        if (word == "true" || word == "false") word = word == "true" ? "1" : "0";
        const auto refuse = [&](std::string_view expected) {
            throw input_error(fmt::format("'{}' is no value for input '{}'", words[i], info.name),
                              {.expected = std::string(expected), .found = std::string(words[i]), .advice = {}});
        };
        if (is_integer(info.type)) {
            std::int64_t integer = 0;
            const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), integer);
            if (error == std::errc{} && stop == word.data() + word.size()) {
                const Tensor one = cast(Tensor::from<std::int64_t>({}, {integer}), info.type);
                store_integer(tensor, i, integer_at(one, 0));
                continue;
            }
        }
        double value = 0;
        const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (word.empty() || error != std::errc{} || stop != word.data() + word.size()) refuse(fmt::format("a number ({})", to_string(info.type)));
        const Range range = integer_range(info.type);
        if (is_integer(info.type) && (value != std::nearbyint(value) || value < range.low || value > range.high)) {
            refuse(fmt::format("a whole number from {} to {}", range.low, range.high));
        }
        store(tensor, i, value);
    }
    return tensor;
}

Summary summarise(const Tensor& tensor) {
    Summary summary;
    summary.count = tensor.element_count();
    if (tensor.type() == ElementType::string || tensor.empty()) return summary;
    double sum = 0;
    double squares = 0;
    std::size_t finite = 0;
    for (std::size_t i = 0; i < summary.count; ++i) {
        const double value = value_at(tensor, i);
        if (std::isnan(value)) {
            ++summary.nan;
        } else if (std::isinf(value)) {
            ++summary.infinite;
        } else {
            summary.min = finite == 0 ? value : std::min(summary.min, value);
            summary.max = finite == 0 ? value : std::max(summary.max, value);
            ++finite;
            const double delta = value - sum;  // Welford: `sum` is the running mean
            sum += delta / static_cast<double>(finite);
            squares += delta * (value - sum);
        }
    }
    summary.mean = sum;
    summary.deviation = finite > 0 ? std::sqrt(squares / static_cast<double>(finite)) : 0;
    return summary;
}

std::string preview(const Tensor& tensor, std::size_t limit) {
    std::string text = "[";
    const std::size_t shown = std::min(limit, tensor.element_count());
    for (std::size_t i = 0; i < shown; ++i) text += (i > 0 ? ", " : "") + text_at(tensor, i);
    if (tensor.element_count() > shown) text += fmt::format("{}… {} more", shown > 0 ? ", " : "", tensor.element_count() - shown);
    return text + "]";
}

std::size_t class_count(const Tensor& tensor) {
    for (auto size = tensor.shape().rbegin(); size != tensor.shape().rend(); ++size) {
        if (*size != 1) return static_cast<std::size_t>(*size);
    }
    return tensor.element_count() > 0 ? 1 : 0;
}

std::vector<Ranked> top_k(const Tensor& tensor, std::size_t row, std::size_t k, bool softmax) {
    if (tensor.type() == ElementType::string || is_complex(tensor.type())) refuse_type("rank", tensor.type());
    const std::size_t classes = class_count(tensor);
    std::vector<Ranked> ranked;
    if (classes == 0 || (row + 1) * classes > tensor.element_count()) return ranked;
    for (std::size_t i = 0; i < classes; ++i) ranked.push_back({i, value_at(tensor, row * classes + i)});
    if (softmax) {
        double largest = -std::numeric_limits<double>::infinity();
        for (const Ranked& entry : ranked) largest = std::max(largest, entry.score);
        double sum = 0;
        for (Ranked& entry : ranked) sum += entry.score = std::exp(entry.score - largest);
        for (Ranked& entry : ranked) entry.score /= sum;
    }
    const auto better = [](const Ranked& a, const Ranked& b) {
        const bool a_nan = std::isnan(a.score);
        const bool b_nan = std::isnan(b.score);
        if (a_nan != b_nan) return b_nan;
        return !a_nan && a.score != b.score ? a.score > b.score : a.index < b.index;
    };
    const std::size_t wanted = std::min(k, ranked.size());
    std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(wanted), ranked.end(), better);
    ranked.resize(wanted);
    return ranked;
}

Difference compare(const Tensor& tensor, const Tensor& reference) {
    Difference difference;
    if (tensor.shape() != reference.shape() || tensor.type() != reference.type()) {
        difference.comparable = false;
        difference.reason = fmt::format("{}{} and {}{}", to_string(tensor.type()), to_string(tensor.shape()), to_string(reference.type()),
                                        to_string(reference.shape()));
        return difference;
    }
    const std::size_t count = tensor.element_count();
    if (tensor.type() == ElementType::string) {
        const auto a = tensor.as<std::string>();
        const auto b = reference.as<std::string>();
        for (std::size_t i = 0; i < count; ++i) difference.unequal_exact += a[i] != b[i] ? 1 : 0;
        return difference;
    }
    if (is_integer(tensor.type())) {
        for (std::size_t i = 0; i < count; ++i) difference.unequal_exact += integer_at(tensor, i) != integer_at(reference, i) ? 1 : 0;
        return difference;
    }
    double error = 0;
    double size = 0;
    double worst = 0;
    double scale = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double a = value_at(tensor, i);
        const double b = value_at(reference, i);
        if ((std::isnan(a) && std::isnan(b)) || a == b) {
            if (std::isfinite(b)) {
                size += b * b;
                scale = std::max(scale, std::abs(b));
            }
            continue;
        }
        error += (a - b) * (a - b);
        size += b * b;
        worst = std::max(worst, std::abs(a - b));
        if (std::isnan(a) || std::isnan(b)) worst = std::numeric_limits<double>::infinity();
        scale = std::max(scale, std::abs(b));
    }
    const auto ratio = [](double top, double bottom) {
        return top == 0 ? 0.0 : bottom == 0 ? std::numeric_limits<double>::infinity() : top / bottom;
    };
    difference.relative_error = std::isnan(error) ? std::numeric_limits<double>::infinity() : ratio(std::sqrt(error), std::sqrt(size));
    difference.max_scaled_error = ratio(worst, scale);
    const std::size_t classes = class_count(reference);
    if (!is_complex(tensor.type()) && classes > 1) {
        for (std::size_t row = 0; (row + 1) * classes <= count && difference.same_top; ++row) {
            const auto mine = top_k(tensor, row, 1, false);
            const auto theirs = top_k(reference, row, 1, false);
            const double gap = theirs[0].score - value_at(reference, row * classes + mine[0].index);
            difference.same_top = mine[0].index == theirs[0].index || !(std::abs(gap) > 1e-6 * scale);
        }
    }
    return difference;
}

}  // namespace ai_vmm::cli
