// SPDX-License-Identifier: Apache-2.0
/// Networks as the literature has them, built small: each must be told for what it is, and by structure (no name in them helps).
#include "graph/category.hpp"

#include <gtest/gtest.h>

#include <openvino/opsets/opset13.hpp>
#include <openvino/opsets/opset9.hpp>

#include "unit/graph/analyser_helpers.hpp"

namespace ai_vmm::graph {
namespace {

namespace op = ov::opset13;
using ov::element::i64;
using Value = ov::Output<ov::Node>;
using enum ModelCategory;

Value scalar(std::int64_t value) { return op::Constant::create(i64, {}, {value}); }
Value dense(const Value& x, std::size_t in, std::size_t out) {
    return std::make_shared<op::Add>(std::make_shared<op::MatMul>(x, weights({in, out})), weights({out}));
}
Value relu(const Value& x) { return std::make_shared<op::Relu>(x); }
Value conv(const Value& x, std::size_t in, std::size_t out, std::size_t kernel, std::size_t stride = 1) {
    const auto pad = static_cast<std::ptrdiff_t>(kernel / 2);
    const std::ptrdiff_t begin = stride == kernel ? 0 : pad;
    return std::make_shared<op::Convolution>(x, weights({out, in, kernel, kernel}), ov::Strides{stride, stride}, ov::CoordinateDiff{begin, begin},
                                             ov::CoordinateDiff{begin, begin}, ov::Strides{1, 1});
}
Value conv_line(const Value& x, std::size_t in, std::size_t out, std::size_t kernel, std::size_t stride = 1) {
    return std::make_shared<op::Convolution>(x, weights({out, in, kernel}), ov::Strides{stride}, ov::CoordinateDiff{0}, ov::CoordinateDiff{0},
                                             ov::Strides{1});
}
Value reshape(const Value& x, const std::vector<std::int64_t>& shape) { return std::make_shared<op::Reshape>(x, integers(shape), true); }
Value transpose(const Value& x, const std::vector<std::int64_t>& order) { return std::make_shared<op::Transpose>(x, integers(order)); }
Value lookup(const Value& ids, std::size_t rows, std::size_t width) { return std::make_shared<op::Gather>(weights({rows, width}), ids, scalar(0)); }
Value flatten(const Value& x) { return reshape(x, {0, -1}); }
Value layer_norm(const Value& x, std::size_t width) {
    const auto normal = std::make_shared<op::MVN>(x, integers({-1}), true, 1e-5f, ov::op::MVNEpsMode::INSIDE_SQRT);
    return std::make_shared<op::Add>(std::make_shared<op::Multiply>(normal, weights({width})), weights({width}));
}

constexpr std::size_t kWidth = 32;
constexpr std::int64_t kHeads = 4;

/// A transformer layer on [batch, length, kWidth], attention written out as products and a softmax, or fused.
Value transformer(const Value& x, bool fused, const Value& mask = {}) {
    const auto heads = [&](const Value& y) {
        return transpose(reshape(y, {0, 0, kHeads, static_cast<std::int64_t>(kWidth) / kHeads}), {0, 2, 1, 3});
    };
    const Value q = heads(dense(x, kWidth, kWidth));
    const Value k = heads(dense(x, kWidth, kWidth));
    const Value v = heads(dense(x, kWidth, kWidth));
    Value mixed;
    if (fused) {
        mixed = std::make_shared<op::ScaledDotProductAttention>(q, k, v, true);
    } else {
        Value scores = std::make_shared<op::Multiply>(std::make_shared<op::MatMul>(q, k, false, true), weights({}));
        if (mask.get_node()) scores = std::make_shared<op::Add>(scores, mask);
        mixed = std::make_shared<op::MatMul>(std::make_shared<op::Softmax>(scores, 3), v);
    }
    const Value joined = reshape(transpose(mixed, {0, 2, 1, 3}), {0, 0, static_cast<std::int64_t>(kWidth)});
    const Value attended = layer_norm(std::make_shared<op::Add>(x, dense(joined, kWidth, kWidth)), kWidth);
    const Value hidden = std::make_shared<op::Gelu>(dense(attended, kWidth, 4 * kWidth));
    return layer_norm(std::make_shared<op::Add>(attended, dense(hidden, 4 * kWidth, kWidth)), kWidth);
}

void expect_category(const ModelProfile& profile, ModelCategory category) {
    std::string evidence;
    for (const std::string& sentence : profile.evidence) evidence += "\n  " + sentence;
    for (const std::string& note : profile.notes) evidence += "\n  note: " + note;
    EXPECT_EQ(to_string(profile.category), to_string(category)) << evidence;
    EXPECT_FALSE(profile.evidence.empty());
    EXPECT_EQ(profile.category_confidence > 0, profile.category != unknown);
    EXPECT_LT(profile.category_confidence, 1);
}

// ---- language

TEST(Category, EncoderOfTextLikeBert) {
    const auto ids = input("a", {-1, -1}, i64);
    const auto types = input("b", {-1, -1}, i64);
    const auto mask = input("c", {-1, -1}, i64);
    Value x = layer_norm(std::make_shared<op::Add>(lookup(ids, 500, kWidth), lookup(types, 2, kWidth)), kWidth);
    const Value wide = std::make_shared<op::Unsqueeze>(mask, integers({1, 2}));
    const Value bias = std::make_shared<op::Multiply>(std::make_shared<op::Convert>(wide, ov::element::f32), weights({}));
    for (int layer = 0; layer < 2; ++layer) x = transformer(x, false, bias);
    const ModelProfile profile = profile_of({x}, {ids, types, mask});
    expect_category(profile, llm_transformer);
    EXPECT_EQ(profile.hidden_width, static_cast<std::int64_t>(kWidth));
}

TEST(Category, EncoderOfTextAtAFixedLength) {
    const auto ids = input("a", {1, 64}, i64);
    Value x = transformer(lookup(ids, 500, kWidth), false);
    const ModelProfile profile = profile_of({dense(x, kWidth, 2)}, {ids});
    expect_category(profile, llm_transformer);
    EXPECT_EQ(profile.hidden_width, static_cast<std::int64_t>(kWidth));
    // As many tokens as the hidden states are wide: either may be meant.
    Value small = transformer(lookup(ids, kWidth, kWidth), false);
    EXPECT_EQ(profile_of({dense(small, kWidth, kWidth)}, {ids}).hidden_width, 0);
}

TEST(Category, DecoderWithLogitsAndState) {
    const auto ids = input("a", {-1, -1}, i64);
    const auto table = weights({500, kWidth});
    Value x = std::make_shared<op::Gather>(table, ids, scalar(0));
    for (int layer = 0; layer < 3; ++layer) x = transformer(x, true);
    const ModelProfile profile = profile_of({std::make_shared<op::MatMul>(x, table, false, true)}, {ids});
    expect_category(profile, llm_transformer);
    EXPECT_NE(std::find(profile.evidence.begin(), profile.evidence.end(), "3 attention blocks"), profile.evidence.end());
}

TEST(Category, BagOfWordsIsNoTransformer) {
    const auto ids = input("a", {-1, -1}, i64);
    const Value mean = std::make_shared<op::ReduceMean>(lookup(ids, 500, kWidth), integers({1}), false);
    expect_category(profile_of({dense(mean, kWidth, 2)}, {ids}), unknown);
}

// ---- vision

TEST(Category, ClassifierOfColourImagesWithAnyLayout) {
    const auto x = input("a", {-1, 3, 32, 32});
    Value y = relu(conv(relu(conv(x, 3, 8, 3)), 8, 16, 3, 2));
    y = std::make_shared<op::ReduceMean>(y, integers({2, 3}), false);
    expect_category(profile_of({dense(y, 16, 10)}, {x}), vision_cnn);

    const auto last = input("a", {-1, -1, -1, 3});
    expect_category(profile_of({relu(conv(transpose(last, {0, 3, 1, 2}), 3, 8, 3))}, {last}), vision_cnn);
}

TEST(Category, ClassifierOfDigits) {
    const auto x = input("a", {-1, 1, 8, 8});
    const Value y = relu(conv(relu(conv(x, 1, 8, 3)), 8, 8, 3));
    expect_category(profile_of({std::make_shared<op::Softmax>(dense(flatten(y), 512, 10), 1)}, {x}), vision_cnn);
    // The same from rows of 64 pixels.
    const auto row = input("a", {-1, 64});
    const Value z = relu(conv(relu(conv(reshape(row, {0, 1, 8, 8}), 1, 8, 3)), 8, 8, 3));
    expect_category(profile_of({dense(flatten(z), 512, 10)}, {row}, {{"a", {1, 64}}}), vision_cnn);
}

TEST(Category, UNetSegmentsImages) {
    const auto x = input("a", {1, 3, 32, 32});
    const Value down = relu(conv(x, 3, 8, 3));
    const Value middle = relu(conv(down, 8, 16, 3, 2));
    const Value up = std::make_shared<op::ConvolutionBackpropData>(middle, weights({16, 8, 2, 2}), ov::Strides{2, 2}, ov::CoordinateDiff{0, 0},
                                                                   ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
    const Value joined = std::make_shared<op::Concat>(ov::OutputVector{down, up}, 1);
    expect_category(profile_of({conv(joined, 16, 2, 1)}, {x}), vision_cnn);
}

TEST(Category, VolumesAreVision) {
    const auto x = input("a", {1, 1, 16, 32, 32});
    const Value y = std::make_shared<op::Convolution>(x, weights({8, 1, 3, 3, 3}), ov::Strides{1, 1, 1}, ov::CoordinateDiff{1, 1, 1},
                                                      ov::CoordinateDiff{1, 1, 1}, ov::Strides{1, 1, 1});
    expect_category(profile_of({relu(y)}, {x}), vision_cnn);
}

TEST(Category, VisionTransformerWithPatchesByConvolution) {
    const auto x = input("a", {-1, 3, 64, 64});
    Value y = transpose(reshape(conv(x, 3, kWidth, 8, 8), {0, static_cast<std::int64_t>(kWidth), 64}), {0, 2, 1});
    for (int layer = 0; layer < 2; ++layer) y = transformer(y, false);
    const ModelProfile profile = profile_of({dense(std::make_shared<op::ReduceMean>(y, integers({1}), false), kWidth, 10)}, {x});
    expect_category(profile, vision_transformer);
}

TEST(Category, VisionTransformerWithPatchesByReshaping) {
    const auto x = input("a", {-1, 1, 8, 8});
    const Value patches = reshape(transpose(reshape(x, {0, 4, 2, 4, 2}), {0, 1, 3, 2, 4}), {0, 16, 4});
    Value y = transformer(dense(patches, 4, kWidth), false);
    expect_category(profile_of({dense(flatten(y), 16 * kWidth, 10)}, {x}), vision_transformer);
}

// ---- speech and audio

TEST(Category, RecogniserWithRecurrentLayers) {
    const auto x = input("a", {1, -1, 80});
    const auto lengths = integers({128});
    Value y = x;
    std::size_t in = 80;
    for (int layer = 0; layer < 2; ++layer) {
        const auto lstm =
            std::make_shared<op::LSTMSequence>(y, weights({1, 1, 64}), weights({1, 1, 64}), lengths, weights({1, 256, in}), weights({1, 256, 64}),
                                               weights({1, 256}), 64, ov::op::RecurrentSequenceDirection::FORWARD);
        y = std::make_shared<op::Squeeze>(lstm->output(0), integers({1}));
        in = 64;
    }
    expect_category(profile_of({std::make_shared<op::LogSoftmax>(dense(y, 64, 29), 2)}, {x}), speech_rnn);
}

TEST(Category, KeywordsFromFramesOfASpectrum) {
    const auto x = input("a", {-1, 1, 49, 40});
    const Value y = relu(conv(relu(conv(x, 1, 8, 3, 2)), 8, 8, 3));
    expect_category(profile_of({dense(std::make_shared<op::ReduceMean>(y, integers({2, 3}), false), 8, 4)}, {x}), speech_rnn);
}

TEST(Category, TransformersOnSoundAreSound) {
    const auto mel = input("a", {1, 80, 300});
    Value y = transpose(relu(conv_line(mel, 80, kWidth, 3)), {0, 2, 1});
    for (int layer = 0; layer < 2; ++layer) y = transformer(y, false);
    expect_category(profile_of({y}, {mel}), speech_rnn);

    const auto wave = input("a", {-1, -1});
    Value z = relu(conv_line(std::make_shared<op::Unsqueeze>(wave, integers({1})), 1, kWidth, 10, 5));
    z = transformer(transpose(relu(conv_line(z, kWidth, kWidth, 3, 2)), {0, 2, 1}), false);
    expect_category(profile_of({z}, {wave}), speech_rnn);
}

// ---- recommendation

TEST(Category, RecommenderWithTablesAndInteractions) {
    const auto numbers = input("a", {-1, 13});
    ov::ParameterVector parameters{numbers};
    ov::OutputVector vectors{relu(dense(relu(dense(numbers, 13, 64)), 64, 16))};
    for (std::size_t table = 0; table < 4; ++table) {
        const auto id = input("id" + std::to_string(table), {-1}, i64);
        parameters.push_back(id);
        vectors.push_back(lookup(id, 1000 + table, 16));
    }
    ov::OutputVector rows;
    for (const Value& vector : vectors) rows.push_back(std::make_shared<op::Unsqueeze>(vector, integers({1})));
    const Value all = std::make_shared<op::Concat>(rows, 1);
    const Value pairs = flatten(std::make_shared<op::MatMul>(all, all, false, true));
    const Value top = std::make_shared<op::Concat>(ov::OutputVector{vectors[0], pairs}, 1);
    const Value score = std::make_shared<op::Sigmoid>(dense(relu(dense(top, 16 + 25, 32)), 32, 1));
    expect_category(profile_of({score}, parameters), recommendation_system);
}

TEST(Category, FactorisationOfUsersAndItems) {
    const auto user = input("u", {-1, 1}, ov::element::i32);
    const auto item = input("v", {-1, 1}, ov::element::i32);
    const Value product = std::make_shared<op::Multiply>(lookup(user, 900, 16), lookup(item, 1700, 16));
    expect_category(profile_of({std::make_shared<op::ReduceSum>(product, integers({2}), false)}, {user, item}), recommendation_system);
}

TEST(Category, FieldsInOneTable) {
    const auto fields = input("a", {-1, 26}, i64);
    const Value y = flatten(lookup(fields, 5000, 8));
    expect_category(profile_of({dense(relu(dense(y, 26 * 8, 32)), 32, 1)}, {fields}), recommendation_system);
}

TEST(Category, PooledLookups) {
    const auto ids = input("a", {20}, i64);
    const auto offsets = input("b", {4}, i64);
    const Value bag = std::make_shared<op::EmbeddingBagOffsetsSum>(weights({1000, 16}), ids, offsets);
    expect_category(profile_of({dense(bag, 16, 1)}, {ids, offsets}), recommendation_system);
}

// ---- science

TEST(Category, PhysicsInformedNetworkOnCoordinates) {
    const auto x = input("a", {-1, 2});
    Value y = x;
    std::size_t in = 2;
    for (int layer = 0; layer < 3; ++layer) {
        y = std::make_shared<op::Tanh>(dense(y, in, 20));
        in = 20;
    }
    expect_category(profile_of({dense(y, 20, 1)}, {x}), scientific_ml);
}

TEST(Category, TabularClassifierAndAutoencoder) {
    const auto x = input("a", {-1, 13});
    expect_category(profile_of({std::make_shared<op::Softmax>(dense(relu(dense(x, 13, 32)), 32, 3), 1)}, {x}), scientific_ml);
    const auto y = input("a", {-1, 64});
    expect_category(profile_of({dense(relu(dense(y, 64, 8)), 8, 64)}, {y}), scientific_ml);
}

TEST(Category, ForecasterThatMixesTimeAndSeries) {
    const auto x = input("a", {-1, 96, 7});
    const Value over_time = dense(transpose(x, {0, 2, 1}), 96, 96);
    const Value over_series = dense(transpose(relu(over_time), {0, 2, 1}), 7, 7);
    const Value horizon = transpose(dense(transpose(over_series, {0, 2, 1}), 96, 24), {0, 2, 1});
    expect_category(profile_of({horizon}, {x}), scientific_ml);
}

TEST(Category, FourierNeuralOperator) {
    const auto x = input("a", {-1, 1, 64, 64});
    const Value lifted = conv(x, 1, 8, 1);
    const Value spectrum = std::make_shared<ov::opset9::RDFT>(lifted, integers({2, 3}));
    const Value scaled = std::make_shared<op::Multiply>(spectrum, weights({1, 8, 64, 33, 1}));
    const Value back = std::make_shared<ov::opset9::IRDFT>(scaled, integers({2, 3}));
    const Value mixed = std::make_shared<op::Gelu>(std::make_shared<op::Add>(back, conv(lifted, 8, 8, 1)));
    expect_category(profile_of({conv(mixed, 8, 1, 1)}, {x}), scientific_ml);
}

// ---- what is none of them

TEST(Category, NothingInParticularIsUnknown) {
    const auto x = input("a", {1, 4, 4});
    expect_category(profile_of({relu(x)}, {x}), unknown);
    EXPECT_EQ(classify(Features{}).category, unknown);
    EXPECT_EQ(classify(Features{}).confidence, 0);
}

TEST(Category, PlanesByChannelsAndSides) {
    EXPECT_EQ(classify_plane(3, {224, 224}), Plane::colour_image);
    EXPECT_EQ(classify_plane(3, {-1, -1}), Plane::colour_image);
    EXPECT_EQ(classify_plane(1, {28, 28}), Plane::grey_image);
    EXPECT_EQ(classify_plane(1, {480, 640}), Plane::grey_image);
    EXPECT_EQ(classify_plane(1, {49, 40}), Plane::time_frequency);
    EXPECT_EQ(classify_plane(1, {998, 128}), Plane::time_frequency);
    EXPECT_EQ(classify_plane(1, {-1, 80}), Plane::time_frequency);
    EXPECT_EQ(classify_plane(1, {-1, -1}), Plane::other);
    EXPECT_EQ(classify_plane(1, {16000}), Plane::waveform);
    EXPECT_EQ(classify_plane(1, {1, 43844}), Plane::waveform);
    EXPECT_EQ(classify_plane(40, {30, 1}), Plane::feature_frames);
    EXPECT_EQ(classify_plane(80, {-1}), Plane::feature_frames);
    EXPECT_EQ(classify_plane(1, {16, 16, 16}), Plane::volume);
    EXPECT_EQ(classify_plane(64, {56, 56}), Plane::other);
    EXPECT_EQ(classify_plane(1, {}), Plane::other);
}

}  // namespace
}  // namespace ai_vmm::graph
