// SPDX-License-Identifier: Apache-2.0
/// Inputs that make a lossy candidate show its loss. What is known to hide one, and is therefore avoided: inputs on which a classifier is
/// certain, ids that bf16 can hold exactly (up to 256), and a single range of values. Figures: docs/design/0004-equivalence.md.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <numbers>

#include "ai_vmm/elements.hpp"
#include "ai_vmm/error.hpp"
#include "optimization/equivalence.hpp"

namespace ai_vmm::optimization {
namespace {

constexpr std::int64_t kDefaultIds = 100;    // vocabulary where nothing tells
constexpr std::int64_t kDefaultLength = 16;  // dynamic dimension where nothing tells
constexpr std::int64_t kDefaultImage = 224;
constexpr std::array<std::int64_t, 2> kSampleRates{16000, 8000};  // of speech
constexpr std::int64_t kNumericFeatures = 1000;                   // integers that index no table

/// splitmix64: https://prng.di.unimi.it/splitmix64.c
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t bits() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31U);
    }
    /// [0, 1)
    double unit() { return static_cast<double>(bits() >> 11U) * 0x1.0p-53; }
    double between(double low, double high) { return low + (high - low) * unit(); }
    /// [0, bound)
    std::int64_t below(std::int64_t bound) { return static_cast<std::int64_t>(unit() * static_cast<double>(bound)); }
    /// Box-Muller, one value per call.
    double normal() { return std::sqrt(-2 * std::log(1 - unit())) * std::cos(2 * std::numbers::pi * unit()); }

private:
    std::uint64_t state_;
};

std::uint64_t hash_of(std::string_view text) {
    std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    return hash;
}

/// A name's words: "inputIds:0" -> "input", "ids", "0".
std::vector<std::string> words_of(std::string_view name) {
    std::vector<std::string> words;
    std::string word;
    bool was_lower = false;
    for (const char raw : name) {
        const auto c = static_cast<unsigned char>(raw);
        if (std::isalnum(c) == 0 || (std::isupper(c) != 0 && was_lower)) {
            if (!word.empty()) words.push_back(std::exchange(word, {}));
        }
        was_lower = std::islower(c) != 0;
        if (std::isalnum(c) != 0) word += static_cast<char>(std::tolower(c));
    }
    if (!word.empty()) words.push_back(word);
    return words;
}

bool has_word(const std::vector<std::string>& words, std::initializer_list<std::string_view> wanted) {
    return std::ranges::any_of(words, [&](const std::string& word) { return std::ranges::find(wanted, word) != wanted.end(); });
}

enum class Role { features, image, waveform, ids, bytes, segment, mask, position, beam, sample_rate, length, state, flag };

bool is_integer(ElementType type) {
    switch (type) {
        case ElementType::i16:
        case ElementType::i32:
        case ElementType::i64:
        case ElementType::u16:
        case ElementType::u32:
        case ElementType::u64: return true;
        default: return false;
    }
}

bool looks_like_image(const Shape& shape) {
    if (shape.size() != 4 && shape.size() != 3) return false;
    const std::size_t n = shape.size();
    const auto channels = [](std::int64_t size) { return size == 1 || size == 3 || size == 4; };
    const bool first = channels(shape[n - 3]) && shape[n - 2] >= 8 && shape[n - 1] >= 8;
    const bool last = channels(shape[n - 1]) && shape[n - 3] >= 8 && shape[n - 2] >= 8;
    return first || (last && shape.size() == 4);
}

bool looks_like_waveform(const Shape& shape) {
    std::int64_t longest = 1;
    std::int64_t count = 1;
    for (const std::int64_t size : shape) {
        longest = std::max(longest, size);
        count *= size;
    }
    return longest >= 256 && count == longest;
}

Role role_of(const TensorInfo& info, const Shape& shape, const ModelProfile& profile) {
    const auto words = words_of(info.name);
    const bool whole = is_integer(info.type);
    if (has_word(words, {"sr", "rate", "samplerate", "sampling"}) && element_count(shape) <= 16) return Role::sample_rate;
    if (has_word(words, {"mask", "masks", "attention", "valid"})) return Role::mask;
    if (info.type == ElementType::boolean) return Role::flag;
    if (has_word(words, {"state", "states", "hidden", "cell", "cache", "past", "h0", "c0", "h", "c", "initial", "mems"})) return Role::state;
    if (whole) {
        if (has_word(words, {"segment", "type", "types"})) return Role::segment;
        if (has_word(words, {"position", "positions", "pos"})) return Role::position;
        if (has_word(words, {"beam"})) return Role::beam;
        if (has_word(words, {"length", "lengths", "len", "lens", "seqlen", "seqlens"})) return Role::length;
        if (has_word(words, {"byte", "bytes"})) return Role::bytes;
        return Role::ids;
    }
    if (looks_like_image(shape)) return Role::image;
    const bool audio =
        profile.category == ModelCategory::speech_rnn || has_word(words, {"audio", "wave", "waveform", "wav", "speech", "signal", "pcm"});
    if (looks_like_waveform(shape) && audio) return Role::waveform;
    return Role::features;
}

/// Rows of the table that a lookup reads, if its figures tell. A lookup reads one row per id: of a whole input, of a column of it, or one id.
std::optional<std::int64_t> table_rows(const NodeProfile& node, const std::vector<std::int64_t>& id_counts) {
    if (node.type.find("Gather") == std::string::npos && node.type.find("Embedding") == std::string::npos) return std::nullopt;
    const auto type = element_type_from_string(node.precision);
    const std::int64_t bytes = type ? static_cast<std::int64_t>(bit_width(*type) / 8) : 0;
    if (node.parameters <= 1 || bytes <= 0 || node.bytes_written <= 0) return std::nullopt;
    const std::int64_t elements = node.bytes_written / bytes;
    for (const std::int64_t ids : id_counts) {
        if (ids <= 0 || elements % ids != 0) continue;
        const std::int64_t width = elements / ids;
        if (width >= 1 && node.parameters % width == 0) return node.parameters / width;
    }
    return std::nullopt;
}

/// @param id_counts  how many ids a lookup may read, the likeliest first
std::optional<std::int64_t> smallest_table(const ModelProfile& profile, const std::vector<std::int64_t>& id_counts) {
    std::optional<std::int64_t> smallest;
    for (const NodeProfile& node : profile.nodes) {
        const auto rows = table_rows(node, id_counts);
        if (rows && *rows > 4) smallest = std::min(smallest.value_or(*rows), *rows);  // smaller ones hold token types
    }
    return smallest;
}

bool has_lookup(const ModelProfile& profile) {
    return profile.nodes.empty() || std::ranges::any_of(profile.nodes, [](const NodeProfile& node) {
               return node.parameters > 1 && (node.type.find("Gather") != std::string::npos || node.type.find("Embedding") != std::string::npos);
           });
}

struct Plan {
    Role role = Role::features;
    Shape shape;
    std::int64_t bound = kDefaultIds;  ///< of ids
    std::int64_t length = 1;           ///< of the sequence that a length speaks of
    std::vector<std::int64_t> values;  ///< that the model knows; sets take them in turn
};

std::optional<Shape> shape_named(const std::vector<std::pair<std::string, Shape>>& shapes, const std::string& name) {
    const auto found = std::ranges::find(shapes, name, &std::pair<std::string, Shape>::first);
    if (found == shapes.end()) return std::nullopt;
    return found->second;
}

[[noreturn]] void refuse_shape(const TensorInfo& info, const std::string& found) {
    throw Error(ErrorCode::invalid_argument, ErrorCategory::input, "the shape given for input '" + info.name + "' does not fit",
                {.expected = info.rank_known ? to_string(info.shape) : "any shape without a ?",
                 .found = found,
                 .advice = "give input_shapes as the model declares them, with numbers for every ?"});
}

std::int64_t default_dimension(const TensorInfo& info, std::size_t axis) {
    if (axis == 0) return 1;
    if (info.shape.size() == 4 && !is_integer(info.type)) {
        const bool channels_last = info.shape[3] > 0 && info.shape[3] <= 4;
        return axis == (channels_last ? 3U : 1U) ? 3 : kDefaultImage;
    }
    return kDefaultLength;
}

Shape shape_of(const TensorInfo& info, const ModelProfile& profile, const std::vector<std::pair<std::string, Shape>>& shapes) {
    const auto given = shape_named(shapes, info.name);
    const auto assumed = shape_named(profile.assumed_shapes, info.name);
    if (!info.rank_known) {
        const auto& any = given ? given : assumed;
        if (!any) refuse_shape(info, "no shape; its rank is unknown");
        Shape shape = *any;
        std::ranges::replace_if(
            shape, [](std::int64_t size) { return size < 0; }, 1);
        return shape;
    }
    if (given && given->size() != info.shape.size()) refuse_shape(info, to_string(*given));
    Shape shape = info.shape;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (given && (*given)[axis] >= 0) {
            if (shape[axis] >= 0 && shape[axis] != (*given)[axis]) refuse_shape(info, to_string(*given));
            shape[axis] = (*given)[axis];
        }
        if (shape[axis] >= 0) continue;
        const bool known = assumed && assumed->size() == shape.size() && (*assumed)[axis] >= 0;
        shape[axis] = known ? (*assumed)[axis] : default_dimension(info, axis);
    }
    return shape;
}

std::vector<Plan> plans_of(std::span<const TensorInfo> infos, const ModelProfile& profile, const std::vector<std::pair<std::string, Shape>>& shapes) {
    std::vector<Plan> plans;
    std::vector<std::int64_t> id_counts;
    std::int64_t length = 1;
    for (const TensorInfo& info : infos) {
        Plan plan;
        plan.shape = shape_of(info, profile, shapes);
        plan.role = role_of(info, plan.shape, profile);
        const auto compared = std::ranges::find(profile.compared_values, info.name, [](const auto& entry) { return entry.first; });
        if (compared != profile.compared_values.end()) plan.values = compared->second;
        if (plan.role == Role::sample_rate) {  // a model may compare with one rate only and take the other in its last branch
            for (const std::int64_t rate : kSampleRates) {
                if (std::ranges::find(plan.values, rate) == plan.values.end()) plan.values.push_back(rate);
            }
        }
        const auto count = static_cast<std::int64_t>(element_count(plan.shape));
        if (plan.role == Role::ids || plan.role == Role::bytes) id_counts.push_back(count);
        const bool sequence = plan.role != Role::state && plan.role != Role::length && plan.shape.size() >= 2;
        if (sequence && length == 1) length = std::max<std::int64_t>(1, plan.shape[1]);
        plans.push_back(std::move(plan));
    }
    for (const TensorInfo& info : infos) {  // columns: [batch, features] split along the features
        const Plan& plan = plans[static_cast<std::size_t>(&info - infos.data())];
        if (plan.role == Role::ids && plan.shape.size() > 1) id_counts.push_back(plan.shape[0]);
    }
    id_counts.push_back(1);
    const auto table = smallest_table(profile, id_counts);
    for (Plan& plan : plans) {
        plan.length = length;
        if (plan.role == Role::bytes) plan.bound = std::min<std::int64_t>(256, table.value_or(256));
        if (plan.role == Role::ids) plan.bound = table.value_or(has_lookup(profile) ? kDefaultIds : kNumericFeatures);
    }
    return plans;
}

/// A few waves along each of two axes with a little noise, in [0, 1]: what photographs, spectrograms and recordings are nearer to than noise.
/// The sine of a sum is put together from those of columns and of the row: images have many elements, and sines take long.
class Waves {
public:
    Waves(Random& random, std::size_t width) : random_(random), columns_(width) {
        for (Wave& wave : waves_)
            wave = {random.between(0.3, 6), random.between(0.3, 6), random.between(0, 2 * std::numbers::pi), random.between(0.2, 1)};
        for (const Wave& wave : waves_) sum_ += wave.height;
        for (std::size_t x = 0; x < width; ++x) {
            for (std::size_t k = 0; k < waves_.size(); ++k)
                columns_[x][k] = Turn::by(2 * std::numbers::pi * waves_[k].x * static_cast<double>(x) / static_cast<double>(width));
        }
    }
    /// Goes to a row, in which `phases` values lie at each x. @param y  in [0, 1)
    void go_to(double y, std::size_t first_phase, std::size_t phases) {
        rows_.resize(phases);
        for (std::size_t p = 0; p < phases; ++p) {
            const double shift = 0.7 * static_cast<double>(first_phase + p);
            for (std::size_t k = 0; k < waves_.size(); ++k) rows_[p][k] = Turn::by(2 * std::numbers::pi * waves_[k].y * y + waves_[k].phase + shift);
        }
    }
    double at(std::size_t x, std::size_t phase) {
        double value = 0;
        for (std::size_t k = 0; k < waves_.size(); ++k) {
            const Turn &a = columns_[x][k], &b = rows_[phase][k];
            value += waves_[k].height * (a.sine * b.cosine + a.cosine * b.sine);
        }
        return std::clamp(0.5 + 0.5 * value / sum_ + 0.02 * random_.normal(), 0.0, 1.0);
    }

private:
    struct Wave {
        double x, y, phase, height;
    };
    struct Turn {
        double sine, cosine;
        static Turn by(double angle) { return {std::sin(angle), std::cos(angle)}; }
    };
    static constexpr std::size_t kWaves = 5;
    std::array<Wave, kWaves> waves_{};
    double sum_ = 0;
    Random& random_;
    std::vector<std::array<Turn, kWaves>> columns_, rows_;
};

void fill_image(Tensor& tensor, int set, Random& random) {
    const Shape& shape = tensor.shape();
    const std::size_t n = shape.size();
    const bool channels_last = n == 4 && shape[n - 1] <= 4;
    const std::size_t channels = channels_last ? static_cast<std::size_t>(shape[n - 1]) : 1;
    const auto width = static_cast<std::size_t>(channels_last ? shape[n - 2] : shape[n - 1]);
    const auto height = static_cast<std::size_t>(channels_last ? shape[n - 3] : shape[n - 2]);
    const bool wide = tensor.type() == ElementType::u8 || tensor.type() == ElementType::i8;
    // Which range a model was trained on is unknown: [0,1], standardised, [0,255]; a candidate has to agree in all.
    static constexpr std::array<std::pair<double, double>, 3> kRanges{{{0, 1}, {-2.1, 2.6}, {0, 255}}};
    auto [low, high] = kRanges[static_cast<std::size_t>(set) % kRanges.size()];
    if (wide) std::tie(low, high) = tensor.type() == ElementType::u8 ? std::make_pair(0.0, 255.0) : std::make_pair(-128.0, 127.0);
    const auto put = [&](std::size_t i, double value) { store_element(tensor.type(), tensor.data(), i, low + (high - low) * value); };
    const std::size_t count = tensor.element_count();
    if (set % 4 == 3) {
        for (std::size_t i = 0; i < count; ++i) put(i, random.unit());
        return;
    }
    Waves waves(random, width);
    std::size_t i = 0;
    for (std::size_t row = 0; i < count; ++row) {
        waves.go_to(static_cast<double>(row % height) / static_cast<double>(height), channels_last ? 0 : row / height, channels);
        for (std::size_t x = 0; x < width; ++x) {
            for (std::size_t c = 0; c < channels; ++c) put(i++, waves.at(x, c));
        }
    }
}

void fill_waveform(Tensor& tensor, int set, Random& random) {
    static constexpr std::array<double, 4> kLoudness{0.8, 0.1, 0.5, 0.01};
    const double loudness = kLoudness[static_cast<std::size_t>(set) % kLoudness.size()];
    const double pitch = random.between(80, 800) / 16000;
    const double scale = bit_width(tensor.type()) < 16 || is_integer(tensor.type()) ? 100 : 1;
    for (std::size_t i = 0; i < tensor.element_count(); ++i) {
        const double t = static_cast<double>(i);
        const double swell = 0.6 + 0.4 * std::sin(t * 0.0011);
        double value = 0;
        for (int overtone = 1; overtone <= 4; ++overtone) value += std::sin(2 * std::numbers::pi * pitch * overtone * t) / (2 * overtone);
        store_element(tensor.type(), tensor.data(), i, scale * loudness * (0.8 * swell * value + 0.1 * random.normal()));
    }
}

void fill_features(Tensor& tensor, int set, Random& random) {
    const ElementType type = tensor.type();
    const std::size_t count = tensor.element_count() * (is_complex(type) ? 2 : 1);
    const bool quantised = !is_float(type);
    double drift = 0;
    for (std::size_t i = 0; i < count; ++i) {
        double value = 0;
        switch (set % 4) {
            case 0: value = random.normal(); break;
            case 1: value = random.unit(); break;
            case 2: value = drift = 0.9 * drift + random.normal(); break;  // neighbours resemble each other, as in series and spectra
            default: value = 5 * random.normal(); break;
        }
        if (quantised) value = (set % 4 == 1) ? value * 100 : value * 40;
        store_element(type, tensor.data(), i, value);
    }
}

void fill_ids(Tensor& tensor, int set, std::int64_t bound, Random& random) {
    const std::size_t count = tensor.element_count();
    std::vector<std::int64_t> phrase(static_cast<std::size_t>(2 + random.below(30)));
    for (auto& id : phrase) id = random.below(bound);
    const std::int64_t low = bound * 3 / 8;  // a narrow band: in bytes the letters
    const std::int64_t band = std::max<std::int64_t>(1, bound / 10);
    for (std::size_t i = 0; i < count; ++i) {
        std::int64_t id = 0;
        switch (set % 4) {
            case 0: id = random.below(bound); break;
            case 1: id = low + random.below(band); break;
            case 2: id = phrase[i % phrase.size()]; break;
            default: id = static_cast<std::int64_t>(static_cast<double>(bound) * std::pow(random.unit(), 4)); break;  // mostly small ones
        }
        store_element(tensor.type(), tensor.data(), i, static_cast<double>(std::clamp<std::int64_t>(id, 0, bound - 1)));
    }
    // The largest id of a table, and an odd one above 256, which bf16 can't tell from its neighbour.
    if (set % 4 == 0 && count > 0) store_element(tensor.type(), tensor.data(), count - 1, static_cast<double>(bound - 1));
    if (set % 4 == 0 && count > 1 && bound > 258) store_element(tensor.type(), tensor.data(), 0, 257);
    if (set % 4 == 2 && count == 1 && bound > 258) store_element(tensor.type(), tensor.data(), 0, 257);
}

void fill_constant(Tensor& tensor, double value) {
    for (std::size_t i = 0; i < tensor.element_count() * (is_complex(tensor.type()) ? 2 : 1); ++i)
        store_element(tensor.type(), tensor.data(), i, value);
}

void fill_strings(Tensor& tensor, Random& random) {
    static constexpr std::array<std::string_view, 8> kWords{"the", "quick", "brown", "fox", "jumps", "over", "lazy dog", "1234"};
    for (std::string& text : tensor.as<std::string>()) {
        for (std::int64_t words = 1 + random.below(6); words > 0; --words) {
            text += (text.empty() ? "" : " ") + std::string(kWords[static_cast<std::size_t>(random.below(8))]);
        }
    }
}

Tensor make_input(const TensorInfo& info, const Plan& plan, int set, Random random) {
    Tensor tensor(info.type, plan.shape);
    if (info.type == ElementType::string) {
        fill_strings(tensor, random);
        return tensor;
    }
    if (!plan.values.empty()) {  // shifted every four sets, so that each kind of other inputs meets each value
        fill_constant(tensor, static_cast<double>(plan.values[static_cast<std::size_t>(set + set / 4) % plan.values.size()]));
        return tensor;
    }
    switch (plan.role) {
        case Role::sample_rate:
        case Role::features: fill_features(tensor, set, random); break;
        case Role::image: fill_image(tensor, set, random); break;
        case Role::waveform: fill_waveform(tensor, set, random); break;
        case Role::ids:
        case Role::bytes: fill_ids(tensor, set, plan.bound, random); break;
        case Role::mask: fill_constant(tensor, 1); break;
        case Role::length: fill_constant(tensor, static_cast<double>(plan.length)); break;
        case Role::segment:
        case Role::state: fill_constant(tensor, 0); break;
        case Role::position:
        case Role::beam: {
            const std::size_t last = plan.shape.empty() ? 1 : static_cast<std::size_t>(std::max<std::int64_t>(1, plan.shape.back()));
            for (std::size_t i = 0; i < tensor.element_count(); ++i) store_element(info.type, tensor.data(), i, static_cast<double>(i % last));
            break;
        }
        case Role::flag:
            for (std::size_t i = 0; i < tensor.element_count(); ++i)
                store_element(info.type, tensor.data(), i, static_cast<double>(random.bits() & 1U));
            break;
    }
    return tensor;
}

}  // namespace

std::vector<Tensor> make_calibration_set(std::span<const TensorInfo> infos, const ModelProfile& profile,
                                         const std::vector<std::pair<std::string, Shape>>& shapes, int set, std::uint64_t seed) {
    const std::vector<Plan> plans = plans_of(infos, profile, shapes);
    std::vector<Tensor> made;
    for (std::size_t i = 0; i < infos.size(); ++i) {
        Random mix(seed ^ hash_of(infos[i].name) ^ (static_cast<std::uint64_t>(set) * 0x9E3779B97F4A7C15ULL) ^ (i << 32U));
        made.push_back(make_input(infos[i], plans[i], set, Random(mix.bits())));
    }
    return made;
}

std::vector<std::vector<Tensor>> make_calibration_inputs(std::span<const TensorInfo> infos, const ModelProfile& profile,
                                                         const std::vector<std::pair<std::string, Shape>>& shapes, int count, std::uint64_t seed) {
    std::vector<std::vector<Tensor>> sets;
    for (int set = 0; set < count; ++set) sets.push_back(make_calibration_set(infos, profile, shapes, set, seed));
    return sets;
}

}  // namespace ai_vmm::optimization
