// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "ai_vmm/elements.hpp"
#include "optimization/equivalence.hpp"

namespace ai_vmm::optimization {
namespace {

constexpr std::size_t kSmallOutput = 16;
constexpr double kElementFactor = 8;        // of max_relative_error, for a single element against the largest
constexpr double kSmallProbability = 1e-6;  // log-odds below this are of no consequence
constexpr std::int64_t kMaxClasses = 1 << 20;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string number(double value) { return fmt::format("{:.3g}", value); }

/// An output as numbers; complex parts are elements of their own.
std::vector<double> values_of(const Tensor& tensor) {
    std::vector<double> values(tensor.element_count() * (is_complex(tensor.type()) ? 2 : 1));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = element_at(tensor.type(), tensor.data(), i);
    return values;
}

struct Rows {
    std::size_t count = 0;
    std::size_t length = 0;
};

/// How an output divides into rows of scores; nothing if it is no such output.
std::optional<Rows> score_rows(const Tensor& tensor, const Tolerance& tolerance) {
    const Shape& shape = tensor.shape();
    if (shape.empty() || static_cast<int>(shape.size()) > tolerance.order_rank || is_complex(tensor.type())) return std::nullopt;
    if (shape.back() == tolerance.feature_length) return std::nullopt;
    if (shape.back() < 2 || shape.back() > kMaxClasses || tensor.element_count() == 0) return std::nullopt;
    const auto length = static_cast<std::size_t>(shape.back());
    return Rows{tensor.element_count() / length, length};
}

bool is_distribution(std::span<const double> row) {
    double sum = 0;
    for (const double value : row) {
        if (!(value >= 0 && value <= 1 + 1e-6)) return false;
        sum += value;
    }
    return std::fabs(sum - 1) < 1e-3;
}

/// Indices of the `depth` largest, largest first.
std::vector<std::size_t> leading(std::span<const double> row, int depth) {
    std::vector<std::size_t> indices(row.size());
    std::iota(indices.begin(), indices.end(), std::size_t{0});
    const std::size_t keep = std::min(row.size(), static_cast<std::size_t>(std::max(depth, 1)));
    std::ranges::partial_sort(indices, indices.begin() + static_cast<std::ptrdiff_t>(keep),
                              [&](std::size_t a, std::size_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    indices.resize(keep);
    return indices;
}

/// Which scores changed places, in words; empty if none did beyond a tie of `noise`.
std::string order_difference(std::span<const double> output, std::span<const double> reference, int depth, double noise) {
    for (const std::size_t high : leading(reference, depth)) {
        for (std::size_t low = 0; low < reference.size(); ++low) {
            if (reference[high] - reference[low] > noise && !(output[high] > output[low])) {
                return fmt::format("ranks {} above {} ({} to {}; the reference has {} to {})", low, high, number(output[low]), number(output[high]),
                                   number(reference[low]), number(reference[high]));
            }
        }
    }
    return {};
}

std::string odds_difference(std::span<const double> output, std::span<const double> reference, int depth, double limit) {
    const auto leaders = leading(reference, depth);
    const std::size_t top = leaders.front();
    for (const std::size_t index : leaders) {
        if (reference[index] < kSmallProbability || index == top) continue;
        const double error =
            std::fabs(std::log(std::max(output[index], 1e-300) / std::max(output[top], 1e-300)) - std::log(reference[index] / reference[top]));
        if (error > limit) {
            return fmt::format("gives {} odds of {} to {} where the reference has {} (log-odds off by {}, {} allowed)", index,
                               number(output[index] / output[top]), top, number(reference[index] / reference[top]), number(error), number(limit));
        }
    }
    return {};
}

class Comparison {
public:
    Comparison(const Tolerance& tolerance, Agreement& result) : tolerance_(tolerance), result_(result) {}

    /// What is wrong with one output; empty if nothing is.
    std::string output(const Tensor& output, const Tensor& reference) {
        if (output.empty() != reference.empty()) return output.empty() ? "is missing" : "is there, but the reference has none";
        if (output.empty()) return {};
        if (output.type() != reference.type())
            return fmt::format("has type {}, the reference {}", to_string(output.type()), to_string(reference.type()));
        if (output.shape() != reference.shape())
            return fmt::format("has shape {}, the reference {}", to_string(output.shape()), to_string(reference.shape()));
        if (output.element_count() == 0) return {};
        if (output.type() == ElementType::string) return strings(output, reference);
        if (is_float(output.type())) return floats(output, reference);
        return integers(output, reference);
    }

private:
    std::string strings(const Tensor& output, const Tensor& reference) const {
        const auto a = output.as<std::string>();
        const auto b = reference.as<std::string>();
        for (std::size_t i = 0; i < a.size(); ++i) {
            if (tolerance_.exact_integers && a[i] != b[i]) return fmt::format("element {} is '{:.40}', the reference has '{:.40}'", i, a[i], b[i]);
        }
        return {};
    }

    std::string integers(const Tensor& output, const Tensor& reference) {
        const ElementType type = output.type();
        const std::size_t count = output.element_count();
        const bool bytes = type == ElementType::i8 || type == ElementType::u8;
        const double steps = bytes ? tolerance_.byte_steps : 0;
        std::size_t differing = 0;
        std::size_t first = count;
        double squares = 0;
        double reference_squares = 0;
        double worst = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const double b = element_at(type, reference.data(), i);
            const double difference = integer_difference(output, reference, i);
            squares += difference * difference;
            reference_squares += b * b;
            worst = std::max(worst, difference);
            if (difference <= steps) continue;
            first = std::min(first, i);
            ++differing;
        }
        note(squares, reference_squares, worst);
        if (differing > 0 && tolerance_.exact_integers) {
            return fmt::format("{} of {} elements differ{}; the first, element {}, is {}, the reference has {}", differing, count,
                               steps > 0 ? fmt::format(" by more than {} steps", steps) : "", first, number(element_at(type, output.data(), first)),
                               number(element_at(type, reference.data(), first)));
        }
        if (!bytes || !tolerance_.order) return {};
        return rows(output, values_of(output), values_of(reference), steps);
    }

    static double integer_difference(const Tensor& output, const Tensor& reference, std::size_t i) {
        // 64-bit integers may differ beyond double's 53 bits.
        if (output.type() == ElementType::i64 || output.type() == ElementType::u64) {
            const auto* a = static_cast<const std::uint64_t*>(output.data());
            const auto* b = static_cast<const std::uint64_t*>(reference.data());
            if (a[i] == b[i]) return 0;
            return std::max(1.0, std::fabs(element_at(output.type(), a, i) - element_at(output.type(), b, i)));
        }
        return std::fabs(element_at(output.type(), output.data(), i) - element_at(output.type(), reference.data(), i));
    }

    std::string floats(const Tensor& output, const Tensor& reference) {
        const std::vector<double> a = values_of(output);
        const std::vector<double> b = values_of(reference);
        const double limit = tolerance_.max_relative_error * (a.size() < kSmallOutput ? tolerance_.small_output : 1);
        double largest = 0;
        for (const double value : b) largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : largest;
        // Scaled, so that squares of f64 values neither overflow nor vanish.
        const double scale = largest > 0 ? largest : 1;
        double squares = 0;
        double reference_squares = 0;
        double worst = 0;
        std::size_t worst_at = 0;
        bool within_absolute = tolerance_.max_absolute_error > 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            if (!std::isfinite(a[i]) || !std::isfinite(b[i])) {
                if ((std::isnan(a[i]) && std::isnan(b[i])) || a[i] == b[i]) continue;
                result_.relative_error = result_.max_absolute_error = kInfinity;
                return fmt::format("element {} is {}, the reference has {}", i, number(a[i]), number(b[i]));
            }
            const double difference = std::fabs(a[i] - b[i]);
            squares += difference / scale * (difference / scale);
            reference_squares += b[i] / scale * (b[i] / scale);
            if (difference > worst) {
                worst = difference;
                worst_at = i;
            }
            within_absolute = within_absolute && difference <= tolerance_.max_absolute_error + limit * std::fabs(b[i]);
        }
        const double relative = note(squares, reference_squares, worst);
        if (!within_absolute) {
            if (relative > limit) return fmt::format("relative error {}, {} allowed", number(relative), number(limit));
            const double element_limit = kElementFactor * limit * largest + tolerance_.max_absolute_error;
            if (worst > element_limit) {
                return fmt::format("element {} is {}, the reference has {} (off by {}, {} allowed)", worst_at, number(a[worst_at]),
                                   number(b[worst_at]), number(worst), number(element_limit));
            }
        }
        return rows(output, a, b, 0);
    }

    /// Order and odds, row by row. `steps`: the tie of integers; 0 for floats, whose tie is relative.
    std::string rows(const Tensor& tensor, const std::vector<double>& a, const std::vector<double>& b, double steps) const {
        const auto layout = score_rows(tensor, tolerance_);
        if (!layout) return {};
        for (std::size_t row = 0; row < layout->count; ++row) {
            const std::span<const double> output = std::span(a).subspan(row * layout->length, layout->length);
            const std::span<const double> reference = std::span(b).subspan(row * layout->length, layout->length);
            const bool finite = std::ranges::all_of(reference, [](double value) { return std::isfinite(value); });
            const bool distribution = steps == 0 && finite && is_distribution(reference);
            if (!finite || (!tolerance_.order && !distribution)) continue;
            double largest = 0;
            for (const double value : reference) largest = std::max(largest, std::fabs(value));
            const double noise = steps > 0 ? 2 * steps : tolerance_.tie * largest + tolerance_.max_absolute_error;
            std::string difference = order_difference(output, reference, tolerance_.order_depth, noise);
            if (difference.empty() && distribution && tolerance_.max_log_error > 0) {
                difference = odds_difference(output, reference, tolerance_.order_depth, tolerance_.max_log_error);
            }
            if (!difference.empty()) return layout->count > 1 ? fmt::format("row {} {}", row, difference) : difference;
        }
        return {};
    }

    /// Records the worst figures; returns this output's relative error.
    double note(double squares, double reference_squares, double worst) {
        double relative = 0;
        if (squares > 0) relative = reference_squares > 0 ? std::sqrt(squares / reference_squares) : kInfinity;
        result_.relative_error = std::max(result_.relative_error, relative);
        result_.max_absolute_error = std::max(result_.max_absolute_error, worst);
        return relative;
    }

    const Tolerance& tolerance_;
    Agreement& result_;
};

}  // namespace

Tolerance tolerance_for(ModelCategory category, std::span<const TensorInfo> outputs, bool quantized) {
    Tolerance tolerance;
    tolerance.max_absolute_error = 1e-6;  // f32 results near zero after cancellation
    switch (category) {
        case ModelCategory::llm_transformer:  // greedy tokens leave the reference some 100 tokens on where logits are off by 0.3 %
            tolerance.max_relative_error = 2e-3;
            tolerance.order_rank = 3;
            tolerance.order = true;
            break;
        case ModelCategory::vision_cnn:  // classes are what counts, and their order and odds are looked at besides
        case ModelCategory::vision_transformer:
            tolerance.max_relative_error = 1e-2;
            tolerance.order = true;
            break;
        case ModelCategory::speech_rnn: tolerance.order = true; break;
        case ModelCategory::recommendation_system:
        case ModelCategory::scientific_ml:
        case ModelCategory::unknown: break;
    }
    const auto scores = [&](const TensorInfo& info) {
        const bool numeric = is_float(info.type) || info.type == ElementType::i8 || info.type == ElementType::u8;
        return numeric && info.rank_known && !info.shape.empty() && static_cast<int>(info.shape.size()) <= tolerance.order_rank &&
               (info.shape.back() < 0 || info.shape.back() > 1);
    };
    tolerance.order = tolerance.order && std::ranges::any_of(outputs, scores);
    if (quantized) {
        // A value on the edge between two steps may round either way in either engine, and the step is some 1 % of a layer's range.
        tolerance.max_relative_error = 3e-2;
        tolerance.small_output = 1;
        tolerance.max_log_error = 0;
        tolerance.tie = 3e-2;
        tolerance.byte_steps = 2;
    }
    return tolerance;
}

Tolerance tolerance_for(const ModelProfile& profile, std::span<const TensorInfo> outputs) {
    Tolerance tolerance = tolerance_for(profile.category, outputs, profile.quantized);
    tolerance.feature_length = profile.hidden_width;
    return tolerance;
}

Agreement compare(std::span<const TensorInfo> infos, std::span<const Tensor> outputs, std::span<const Tensor> reference, const Tolerance& tolerance) {
    Agreement result;
    if (outputs.size() != reference.size()) {
        result.reason = fmt::format("{} outputs, the reference has {}", outputs.size(), reference.size());
        return result;
    }
    Comparison comparison(tolerance, result);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const std::string difference = comparison.output(outputs[i], reference[i]);
        if (difference.empty() || !result.reason.empty()) continue;
        const std::string name = i < infos.size() && !infos[i].name.empty() ? "'" + infos[i].name + "'" : std::to_string(i);
        result.reason = "output " + name + ": " + difference;
    }
    result.agrees = result.reason.empty();
    return result;
}

}  // namespace ai_vmm::optimization
