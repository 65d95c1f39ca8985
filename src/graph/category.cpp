// SPDX-License-Identifier: Apache-2.0
#include "graph/category.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <string_view>

namespace ai_vmm::graph {
namespace {

using enum ModelCategory;

// ---- what rules ask

bool sees(const Features& f, std::initializer_list<Plane> planes) {
    return std::any_of(f.planes.begin(), f.planes.end(), [&](Plane p) { return std::find(planes.begin(), planes.end(), p) != planes.end(); });
}
bool sees_image(const Features& f) { return sees(f, {Plane::colour_image, Plane::grey_image}); }
bool sees_sound(const Features& f) { return sees(f, {Plane::time_frequency, Plane::waveform, Plane::feature_frames}); }
double convolution(const Features& f) { return f.convolution_1d + f.convolution_2d; }
bool recurrent(const Features& f) { return f.recurrent_ops > 0 || f.svdf_ops > 0; }
bool embeds(const Features& f) { return f.token_tables > 0 || f.id_tables > 0 || f.embedding_bags > 0; }

/// An input that no convolution sees but that has the shape of an image: three channels, or a square of one channel.
bool image_shaped_input(const Features& f) {
    return std::any_of(f.inputs.begin(), f.inputs.end(), [](const TensorInfo& input) {
        if (!input.rank_known || input.shape.size() != 4) return false;
        const auto& s = input.shape;
        const auto square = [](std::int64_t a, std::int64_t b) { return a == b && (a < 0 || a >= 8); };
        return (s[1] == 3 || s[1] == 1) ? square(s[2], s[3]) : (s[3] == 3 || s[3] == 1) && square(s[1], s[2]);
    });
}

bool all_float(const std::vector<TensorInfo>& tensors) {
    return !tensors.empty() && std::all_of(tensors.begin(), tensors.end(), [](const TensorInfo& t) {
        // Eight-bit integers are quantised reals; wider ones count or name things.
        return t.type == ElementType::f32 || t.type == ElementType::f64 || t.type == ElementType::f16 || t.type == ElementType::bf16 ||
               t.type == ElementType::i8 || t.type == ElementType::u8;
    });
}

bool only_dense(const Features& f) {
    return f.matmuls > 0 && f.convolutions == 0 && !recurrent(f) && f.attention_blocks == 0 && !embeds(f) && f.spectral_ops == 0;
}

bool vector_inputs(const Features& f) {
    return all_float(f.inputs) &&
           std::all_of(f.inputs.begin(), f.inputs.end(), [](const TensorInfo& t) { return t.rank_known && t.shape.size() <= 2; });
}

/// [batch, time, series] in and out with the same series.
bool series_to_series(const Features& f) {
    const auto is_series = [](const TensorInfo& t) { return t.rank_known && t.shape.size() == 3 && t.shape[2] > 0; };
    return all_float(f.inputs) && std::any_of(f.inputs.begin(), f.inputs.end(), [&](const TensorInfo& in) {
               return is_series(in) && std::any_of(f.outputs.begin(), f.outputs.end(),
                                                   [&](const TensorInfo& out) { return is_series(out) && out.shape[2] == in.shape[2]; });
           });
}

bool reconstructs_vector(const Features& f) {
    return f.inputs.size() == 1 && f.outputs.size() == 1 && f.inputs[0].shape.size() == 2 && f.outputs[0].shape.size() == 2 &&
           f.inputs[0].shape[1] > 1 && f.inputs[0].shape[1] == f.outputs[0].shape[1];
}

bool field_to_field(const Features& f) {
    return f.inputs.size() == 1 && f.outputs.size() == 1 && f.inputs[0].shape.size() >= 3 && f.inputs[0].shape.size() == f.outputs[0].shape.size() &&
           f.inputs[0].shape.size() <= 5;
}

/// A weak hint: a name that has one of the words in it.
bool named(const std::vector<TensorInfo>& tensors, std::initializer_list<std::string_view> words) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
        std::string name = tensor.name;
        std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return name.find(word) != std::string::npos; });
    });
}

std::string percent(double share) { return std::to_string(static_cast<int>(share * 100 + 0.5)) + " %"; }
std::string of_work(const Features& f) { return f.has_flops ? " of the FLOPs" : " of the weighted operations"; }
std::string count(int number, std::string_view singular, std::string_view plural) {
    return std::to_string(number).append(" ").append(number == 1 ? singular : plural);
}

// ---- the table

struct Rule {
    ModelCategory category;
    double weight;
    bool (*holds)(const Features&);
    std::string (*says)(const Features&);
};

/// A category needs this much to be named; else the model is UNKNOWN.
constexpr double kThreshold = 3.0;

const Rule kRules[] = {
    // Language: tokens are looked up in a table, attended to, and become logits over the table.
    {llm_transformer, 2.0, [](const Features& f) { return f.token_tables > 0; },
     [](const Features& f) { return "sequences of integers are looked up in an embedding table of " + std::to_string(f.table_rows) + " rows"; }},
    {llm_transformer, 2.0, [](const Features& f) { return f.attention_blocks > 0; },
     [](const Features& f) { return count(f.attention_blocks, "attention block", "attention blocks"); }},
    {llm_transformer, 1.5, [](const Features& f) { return f.attention_blocks > 0 && f.state_caches > 0; },
     [](const Features& f) { return count(f.state_caches, "state", "states") + " of rank 4 that carry keys and values from call to call"; }},
    {llm_transformer, 1.0, [](const Features& f) { return f.vocabulary_logits; },
     [](const Features&) { return std::string("an output as wide as the embedding table has rows: logits over a vocabulary"); }},
    {llm_transformer, 0.5,
     [](const Features& f) {
         return named(f.inputs, {"input_ids", "attention_mask", "token"});
     },
     [](const Features&) { return std::string("inputs are named as tokens and masks"); }},
    {llm_transformer, -3.0, [](const Features& f) { return sees_image(f) || sees_sound(f); }, nullptr},
    {llm_transformer, -2.0, [](const Features& f) { return f.attention_blocks == 0; }, nullptr},

    // Vision: an image is seen by convolutions, or cut into patches that are attended to.
    {vision_cnn, 2.0, [](const Features& f) { return sees(f, {Plane::colour_image}); },
     [](const Features&) { return std::string("the first convolution sees three channels over two dimensions: a colour image"); }},
    {vision_cnn, 1.75, [](const Features& f) { return sees(f, {Plane::grey_image}) && !sees(f, {Plane::colour_image}); },
     [](const Features&) { return std::string("the first convolution sees one channel over a plane shaped like a picture"); }},
    {vision_cnn, 1.5, [](const Features& f) { return sees(f, {Plane::volume}); },
     [](const Features&) { return std::string("convolutions over three dimensions: video or volumes"); }},
    {vision_cnn, 2.0, [](const Features& f) { return f.convolution_2d >= 0.5; },
     [](const Features& f) { return "2-D convolutions do " + percent(f.convolution_2d) + of_work(f); }},
    {vision_cnn, -2.0, [](const Features& f) { return f.attention_blocks > 0 && f.dense > convolution(f); }, nullptr},
    {vision_cnn, -2.0, [](const Features& f) { return recurrent(f); }, nullptr},
    {vision_cnn, -2.0, [](const Features& f) { return !sees_image(f) && sees_sound(f); }, nullptr},
    {vision_cnn, -2.0, [](const Features& f) { return f.spectral_ops > 0; }, nullptr},

    {vision_transformer, 2.0, [](const Features& f) { return f.attention_blocks > 0; },
     [](const Features& f) { return count(f.attention_blocks, "attention block", "attention blocks"); }},
    {vision_transformer, 2.0, [](const Features& f) { return sees_image(f) || image_shaped_input(f); },
     [](const Features&) { return std::string("the input has the shape of an image"); }},
    {vision_transformer, 1.0, [](const Features& f) { return f.patch_embedding && f.attention_blocks > 0; },
     [](const Features&) { return std::string("the first convolution's stride is its kernel: it cuts patches"); }},
    {vision_transformer, 1.0, [](const Features& f) { return f.attention_blocks > 0 && f.dense > convolution(f); },
     [](const Features& f) { return "matrix products do " + percent(f.dense) + of_work(f) + ", convolutions " + percent(convolution(f)); }},
    {vision_transformer, -2.0, [](const Features& f) { return convolution(f) > 0.5; }, nullptr},
    {vision_transformer, -3.0, [](const Features& f) { return f.token_tables > 0; }, nullptr},
    {vision_transformer, -2.0, [](const Features& f) { return f.attention_blocks == 0; }, nullptr},

    // Speech and audio: waves, spectra, frames of features, and what remembers them.
    {speech_rnn, 2.5, [](const Features& f) { return f.recurrent_ops > 0; },
     [](const Features& f) { return count(f.recurrent_ops, "recurrent layer", "recurrent layers") + " (LSTM, GRU or RNN)"; }},
    {speech_rnn, 0.5, [](const Features& f) { return f.recurrent_ops > 0 && !embeds(f); },
     [](const Features&) { return std::string("its recurrent layers run over measurements, not over looked-up ids"); }},
    {speech_rnn, 3.0, [](const Features& f) { return f.svdf_ops > 0; },
     [](const Features& f) { return count(f.svdf_ops, "SVDF layer", "SVDF layers") + ": the recurrent filter of keyword spotters"; }},
    {speech_rnn, 2.5, [](const Features& f) { return sees(f, {Plane::waveform}); },
     [](const Features&) { return std::string("the first convolution sees one channel over one long dimension: a waveform"); }},
    {speech_rnn, 2.5, [](const Features& f) { return sees(f, {Plane::time_frequency}); },
     [](const Features&) { return std::string("the first convolution sees one channel over a narrow plane: frames of a spectrum"); }},
    {speech_rnn, 2.5, [](const Features& f) { return sees(f, {Plane::feature_frames}) && !embeds(f) && all_float(f.inputs); },
     [](const Features&) { return std::string("convolutions run along time over frames of features"); }},
    {speech_rnn, 2.0, [](const Features& f) { return f.spectral_ops > 0; },
     [](const Features& f) {
         return count(f.spectral_ops, "operator", "operators") + " of signal processing (Fourier transforms, windows, filter banks)";
     }},
    {speech_rnn, 1.0, [](const Features& f) { return sees_sound(f) && !sees_image(f) && all_float(f.inputs) && !embeds(f); },
     [](const Features&) { return std::string("nothing in it sees an image"); }},
    {speech_rnn, 1.0, [](const Features& f) { return f.spectral_ops >= 3; },
     [](const Features&) { return std::string("several stages of a signal front end"); }},
    {speech_rnn, 0.5,
     [](const Features& f) {
         return named(f.inputs, {"audio", "wav", "mel", "spectr", "mfcc", "speech", "samples"});
     },
     [](const Features&) { return std::string("inputs are named as sound"); }},
    {speech_rnn, -2.0, [](const Features& f) { return f.token_tables > 0 && !sees_sound(f); }, nullptr},
    {speech_rnn, -2.0, [](const Features& f) { return sees(f, {Plane::colour_image}); }, nullptr},

    // Recommendation: ids of users and things are looked up, combined, scored.
    {recommendation_system, 3.0, [](const Features& f) { return f.embedding_bags > 0; },
     [](const Features& f) { return count(f.embedding_bags, "pooled embedding lookup", "pooled embedding lookups"); }},
    {recommendation_system, 2.0, [](const Features& f) { return f.id_tables >= 1; },
     [](const Features& f) { return count(f.id_tables, "embedding table is", "embedding tables are") + " looked up by ids of the inputs"; }},
    {recommendation_system, 1.5, [](const Features& f) { return f.id_tables >= 1 && f.id_fields >= 2; },
     [](const Features& f) { return std::to_string(f.id_fields) + " ids per sample are combined"; }},
    {recommendation_system, 0.5, [](const Features& f) { return (f.id_tables > 0 || f.embedding_bags > 0) && f.matmuls > 0 && f.convolutions == 0; },
     [](const Features&) { return std::string("dense layers stand on the looked-up vectors"); }},
    {recommendation_system, 0.5,
     [](const Features& f) {
         return named(f.inputs, {"user", "item", "movie", "product", "sparse", "categor"});
     },
     [](const Features&) { return std::string("inputs are named as users, items or categories"); }},
    {recommendation_system, -3.0, [](const Features& f) { return f.attention_blocks > 0 && f.token_tables > 0; }, nullptr},
    {recommendation_system, -3.0, [](const Features& f) { return !f.planes.empty(); }, nullptr},

    // Science: measurements or coordinates in, numbers out.
    {scientific_ml, 2.0, [](const Features& f) { return only_dense(f) && all_float(f.inputs); },
     [](const Features&) { return std::string("dense layers only: no convolution, recurrence, attention or embedding"); }},
    {scientific_ml, 1.5, [](const Features& f) { return vector_inputs(f) && !recurrent(f) && f.spectral_ops == 0 && f.convolutions == 0; },
     [](const Features&) { return std::string("inputs are vectors of real numbers: measurements, table rows or coordinates"); }},
    {scientific_ml, 1.5, [](const Features& f) { return only_dense(f) && series_to_series(f); },
     [](const Features&) { return std::string("series over time go in and the same series come out: a forecast"); }},
    {scientific_ml, 0.5, [](const Features& f) { return only_dense(f) && reconstructs_vector(f); },
     [](const Features&) { return std::string("the output is as wide as the input: a reconstruction"); }},
    {scientific_ml, 0.5, [](const Features& f) { return only_dense(f) && f.smooth_activations > 0; },
     [](const Features&) { return std::string("smooth activations between dense layers, as networks of physical fields have"); }},
    {scientific_ml, 3.0, [](const Features& f) { return f.estimator_ops > 0; },
     [](const Features& f) { return count(f.estimator_ops, "operator", "operators") + " of classical estimators (trees, linear models, scalers)"; }},
    {scientific_ml, 3.5,
     [](const Features& f) { return f.spectral_ops > 0 && field_to_field(f) && f.dense + f.convolution_2d + f.convolution_1d > 0 && !sees_sound(f); },
     [](const Features&) { return std::string("Fourier transforms between layers, and a field of the input's rank comes out: a neural operator"); }},
};

}  // namespace

CategoryResult classify(const Features& features) {
    constexpr std::array kCategories = {llm_transformer, vision_cnn, vision_transformer, speech_rnn, recommendation_system, scientific_ml};
    struct Score {
        ModelCategory category;
        double sum = 0;
        std::vector<const Rule*> for_it;
    };
    std::vector<Score> scores;
    for (const ModelCategory category : kCategories) {
        Score score{category, 0, {}};
        for (const Rule& rule : kRules) {
            if (rule.category != category || !rule.holds(features)) continue;
            score.sum += rule.weight;
            if (rule.weight > 0) score.for_it.push_back(&rule);
        }
        std::stable_sort(score.for_it.begin(), score.for_it.end(), [](const Rule* a, const Rule* b) { return a->weight > b->weight; });
        scores.push_back(std::move(score));
    }
    std::stable_sort(scores.begin(), scores.end(), [](const Score& a, const Score& b) { return a.sum > b.sum; });

    CategoryResult result;
    const Score& best = scores.front();
    const double second = std::max(0.0, scores[1].sum);
    if (best.sum < kThreshold) {
        std::string sentence = "no kind of network is told clearly";
        if (best.sum > 0)
            sentence += "; nearest is " + std::string(to_string(best.category)) + " (" + percent(best.sum / kThreshold) + " of what is needed)";
        result.evidence.push_back(std::move(sentence));
        for (const Rule* rule : best.for_it) result.evidence.push_back(rule->says(features));
        return result;
    }
    result.category = best.category;
    // The best one's part of all that speaks for a category; the 1 stands for what no rule knows.
    result.confidence = best.sum / (best.sum + second + 1);
    for (const Rule* rule : best.for_it) result.evidence.push_back(rule->says(features));
    if (second >= kThreshold) result.evidence.push_back("it could also be " + std::string(to_string(scores[1].category)));
    return result;
}

}  // namespace ai_vmm::graph
