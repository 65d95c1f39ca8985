// SPDX-License-Identifier: Apache-2.0
#include "planning/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ai_vmm::planning {
namespace {

/// The place of the second significant digit of `value`, as a power of ten.
double second_digit(double value) { return std::pow(10.0, std::floor(std::log10(value)) - 1); }

}  // namespace

std::string number(double value) {
    if (!std::isfinite(value)) return fmt::format("{}", value);
    if (value == 0) return "0";
    const double magnitude = std::fabs(value);
    if (magnitude >= 99.95) return fmt::format("{:.0f}", value);
    const int decimals = std::min(9, 2 - static_cast<int>(std::floor(std::log10(magnitude))));
    std::string text = fmt::format("{:.{}f}", value, decimals);
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
    return text;
}

std::string milliseconds(double value) { return number(value) + " ms"; }

std::string mebibytes(std::int64_t bytes) {
    const double mib = static_cast<double>(bytes) / kMiB;
    return mib >= 10240 ? number(mib / 1024) + " GiB" : number(mib) + " MiB";
}

std::string kibibytes(std::int64_t bytes) {
    if (bytes < 1024) return std::to_string(bytes) + " B";
    return bytes < 10 << 20 ? number(static_cast<double>(bytes) / 1024) + " KiB" : mebibytes(bytes);
}

std::string rounded_up(double value) {
    if (!std::isfinite(value) || value <= 0) return number(value);
    const double step = second_digit(value);
    return number(std::ceil(value / step - 1e-9) * step);
}

std::string rounded_down(double value) {
    if (!std::isfinite(value) || value <= 0) return number(value);
    const double step = second_digit(value);
    return number(std::floor(value / step + 1e-9) * step);
}

}  // namespace ai_vmm::planning
