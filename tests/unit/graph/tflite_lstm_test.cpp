// SPDX-License-Identifier: Apache-2.0
#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <openvino/openvino.hpp>
#include <random>

#include "graph/formats/tflite_file.hpp"
#include "support.hpp"

namespace ai_vmm::graph::testing {
namespace {

constexpr int kTime = 12, kBatch = 2, kFeatures = 3, kHidden = 4;

struct Lstm {
    bool time_major = false;
    float cell_clip = 0;
    int activation = 4;                       // TANH
    int weight_type = 0;                      // FLOAT32
    int peephole = -1;                        // a tensor, or absent
    bool axis_of_bias = false;                // a quantisation axis that a vector can't have
    std::vector<std::vector<float>> weights;  // four for the data, four recurrent, four biases: input, forget, cell, output gate

    explicit Lstm(float scale = 1) {
        std::mt19937 random(5);
        std::normal_distribution<float> normal(0, scale);
        for (int i = 0; i < 12; ++i) {
            std::vector<float> values(static_cast<std::size_t>(kHidden * (i < 4 ? kFeatures : i < 8 ? kHidden : 1)));
            for (float& value : values) value = normal(random);
            weights.push_back(std::move(values));
        }
    }

    /// The file, put together field by field.
    [[nodiscard]] std::string file() const {
        flatbuffers::FlatBufferBuilder builder;
        using Offset = flatbuffers::Offset<void>;
        const auto table = [&](const auto& fill) {
            const auto start = builder.StartTable();
            fill();
            return Offset(builder.EndTable(start));
        };
        const auto field = [](int index) { return flatbuffers::FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(index)); };
        const auto code = table([&] {
            builder.AddElement<std::int8_t>(field(0), 44, 0);  // old readers' place for it
            builder.AddElement<std::int32_t>(field(3), 44, 0);
        });
        const auto codes = builder.CreateVector(std::vector<Offset>{code});
        std::vector<Offset> buffers{table([] {})};
        std::vector<Offset> tensors;
        const auto add_tensor = [&](const std::string& name, const std::vector<std::int32_t>& shape, int type, std::uint32_t buffer, bool variable) {
            const auto shape_offset = builder.CreateVector(shape);
            const auto name_offset = builder.CreateString(name);
            Offset quantisation;
            if (axis_of_bias && shape.size() == 1) quantisation = table([&] { builder.AddElement<std::int32_t>(field(6), 3, 0); });
            tensors.push_back(table([&] {
                builder.AddOffset(field(0), shape_offset);
                builder.AddElement<std::int8_t>(field(1), static_cast<std::int8_t>(type), 0);
                builder.AddElement<std::uint32_t>(field(2), buffer, 0);
                builder.AddOffset(field(3), name_offset);
                if (!quantisation.IsNull()) builder.AddOffset(field(4), quantisation);
                builder.AddElement<std::uint8_t>(field(5), variable ? 1 : 0, 0);
            }));
        };
        const std::vector<std::int32_t> order = time_major ? std::vector<std::int32_t>{kTime, kBatch} : std::vector<std::int32_t>{kBatch, kTime};
        add_tensor("in", {order[0], order[1], kFeatures}, 0, 0, false);
        for (int i = 0; i < 12; ++i) {
            const auto& values = weights[static_cast<std::size_t>(i)];
            builder.ForceVectorAlignment(values.size() * 4, 1, 16);
            const auto data = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * 4);
            buffers.push_back(table([&] { builder.AddOffset(field(0), data); }));
            const std::vector<std::int32_t> shape = i < 4   ? std::vector<std::int32_t>{kHidden, kFeatures}
                                                    : i < 8 ? std::vector<std::int32_t>{kHidden, kHidden}
                                                            : std::vector<std::int32_t>{kHidden};
            add_tensor("w" + std::to_string(i), shape, weight_type, static_cast<std::uint32_t>(i + 1), false);
        }
        add_tensor("state", {kBatch, kHidden}, 0, 0, true);
        add_tensor("cell", {kBatch, kHidden}, 0, 0, true);
        add_tensor("out", {order[0], order[1], kHidden}, 0, 0, false);
        const auto buffer_list = builder.CreateVector(buffers);
        const auto tensor_list = builder.CreateVector(tensors);
        const auto options = table([&] {
            builder.AddElement<std::int8_t>(field(0), static_cast<std::int8_t>(activation), 0);
            builder.AddElement<float>(field(1), cell_clip, 0);
            builder.AddElement<std::uint8_t>(field(3), time_major ? 1 : 0, 0);
        });
        const auto in = builder.CreateVector(
            std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, peephole, peephole, peephole, 9, 10, 11, 12, -1, -1, 13, 14, -1, -1, -1, -1});
        const auto out = builder.CreateVector(std::vector<std::int32_t>{15});
        const auto operation = table([&] {
            builder.AddOffset(field(1), in);
            builder.AddOffset(field(2), out);
            builder.AddElement<std::uint8_t>(field(3), 71, 0);
            builder.AddOffset(field(4), options);
        });
        const auto operations = builder.CreateVector(std::vector<Offset>{operation});
        const auto graph_in = builder.CreateVector(std::vector<std::int32_t>{0});
        const auto graph = table([&] {
            builder.AddOffset(field(0), tensor_list);
            builder.AddOffset(field(1), graph_in);
            builder.AddOffset(field(2), out);
            builder.AddOffset(field(3), operations);
        });
        const auto graphs = builder.CreateVector(std::vector<Offset>{graph});
        const auto root = table([&] {
            builder.AddElement<std::uint32_t>(field(0), 3, 0);
            builder.AddOffset(field(1), codes);
            builder.AddOffset(field(2), graphs);
            builder.AddOffset(field(4), buffer_list);
        });
        builder.Finish(root, "TFL3");
        return std::string(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
    }

    [[nodiscard]] std::size_t at(int batch, int time, int width, int k) const {
        return static_cast<std::size_t>((time_major ? time * kBatch + batch : batch * kTime + time) * width + k);
    }

    /// The outputs as the definition of the operation says, in double.
    [[nodiscard]] std::vector<double> outputs(const std::vector<float>& in) const {
        std::vector<double> out(static_cast<std::size_t>(kBatch * kTime * kHidden));
        for (int b = 0; b < kBatch; ++b) {
            std::vector<double> state(kHidden), cell(kHidden);
            for (int t = 0; t < kTime; ++t) {
                std::vector<double> next(kHidden);
                for (int h = 0; h < kHidden; ++h) {
                    double gate[4];
                    for (int g = 0; g < 4; ++g) {
                        const auto part = [&](int kind) -> const std::vector<float>& { return weights[static_cast<std::size_t>(4 * kind + g)]; };
                        gate[g] = part(2)[static_cast<std::size_t>(h)];
                        for (int k = 0; k < kFeatures; ++k)
                            gate[g] += static_cast<double>(part(0)[static_cast<std::size_t>(h * kFeatures + k)]) * in[at(b, t, kFeatures, k)];
                        for (int k = 0; k < kHidden; ++k)
                            gate[g] += static_cast<double>(part(1)[static_cast<std::size_t>(h * kHidden + k)]) * state[static_cast<std::size_t>(k)];
                    }
                    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
                    double& c = cell[static_cast<std::size_t>(h)];
                    c = sigmoid(gate[1]) * c + sigmoid(gate[0]) * std::tanh(gate[2]);
                    if (cell_clip > 0) c = std::clamp<double>(c, -cell_clip, cell_clip);
                    next[static_cast<std::size_t>(h)] = sigmoid(gate[3]) * std::tanh(c);
                }
                state = next;
                for (int h = 0; h < kHidden; ++h) out[at(b, t, kHidden, h)] = state[static_cast<std::size_t>(h)];
            }
        }
        return out;
    }
};

double worst_error(const Lstm& lstm) {
    const backend::Model model = read_model(locate(ModelSource::from_bytes(lstm.file())));
    if (!model.graph) throw std::runtime_error(model.graph_refusal);
    std::vector<float> in(static_cast<std::size_t>(kBatch * kTime * kFeatures));
    std::mt19937 random(6);
    std::normal_distribution<float> normal;
    for (float& value : in) value = normal(random);
    ov::Core core;
    auto request = core.compile_model(model.graph, "CPU", {{"INFERENCE_PRECISION_HINT", std::string("f32")}}).create_infer_request();
    request.set_input_tensor(ov::Tensor(ov::element::f32, model.graph->input().get_shape(), in.data()));
    request.infer();
    const std::vector<double> expected = lstm.outputs(in);
    const ov::Tensor found = request.get_output_tensor();
    if (found.get_size() != expected.size()) throw std::runtime_error("another number of outputs");
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(found.data<float>()[i] - expected[i]));
    return worst;
}

TEST(TfliteLstm, ComputesWhatTheOperationSays) {
    for (const bool time_major : {false, true}) {
        for (const float clip : {0.0F, 0.25F, 2.0F, 100.0F}) {
            Lstm lstm(2);
            lstm.time_major = time_major;
            lstm.cell_clip = clip;
            EXPECT_LT(worst_error(lstm), 1e-5) << time_major << ' ' << clip;
        }
    }
    Lstm unbounded(2), bounded(2);
    bounded.cell_clip = 2;
    const std::vector<float> ones(static_cast<std::size_t>(kBatch * kTime * kFeatures), 1.0F);
    EXPECT_NE(unbounded.outputs(ones), bounded.outputs(ones)) << "the bound is never reached: the cases above prove nothing";
}

TEST(TfliteLstm, WhatCannotBeExactIsRefusedByName) {
    const auto refusal = [](const auto& change) {
        Lstm lstm;
        change(lstm);
        const auto error = error_of([&] { static_cast<void>(read_model(locate(ModelSource::from_bytes(lstm.file())))); });
        return error ? std::string(error->what()) : std::string();
    };
    EXPECT_EQ(refusal([](Lstm&) {}), "");
    for (const auto& [text, why] :
         {std::pair{refusal([](Lstm& l) { l.weight_type = 9; }), "computes in i8"},
          std::pair{refusal([](Lstm& l) { l.activation = 1; }), "activation"}, std::pair{refusal([](Lstm& l) { l.peephole = 9; }), "peepholes"}}) {
        EXPECT_NE(text.find("UNIDIRECTIONAL_SEQUENCE_LSTM (operation 0)"), std::string::npos) << text;
        EXPECT_NE(text.find(why), std::string::npos) << text;
    }
}

TEST(TfliteFile, AVectorHasNoAxisBut0) {
    Lstm lstm;
    lstm.axis_of_bias = true;
    const std::string bytes = lstm.file();
    const TfliteFile file = parse_tflite(bytes);
    const auto axes = [](const TfliteFile& of) { return std::ranges::count(of.repairs, 0, [](const auto& repair) { return repair.second; }); };
    EXPECT_EQ(axes(file), 4);  // one per bias
    EXPECT_EQ(axes(parse_tflite(repaired(bytes, file))), 0);
    EXPECT_LT(worst_error(lstm), 1e-5);
}

}  // namespace
}  // namespace ai_vmm::graph::testing
