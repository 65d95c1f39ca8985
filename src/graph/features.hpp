// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ov {
class Model;
}

namespace ai_vmm::graph {

/// What the first convolution that an input reaches sees of it.
enum class Plane : std::uint8_t {
    none,
    colour_image,    ///< three channels over two dimensions
    grey_image,      ///< one channel over a square, or over a plane in the proportions of a picture
    time_frequency,  ///< one channel over a plane that is narrow one way: frames of a spectrum
    waveform,        ///< one channel over one long dimension
    feature_frames,  ///< many channels over one dimension: frames of a feature vector
    volume,          ///< three dimensions
    other,
};

/// @param channels  of the data.
/// @param sides     its spatial dimensions; negative where the model leaves them open.
[[nodiscard]] Plane classify_plane(std::int64_t channels, const std::vector<std::int64_t>& sides);

/// What tells kinds of networks apart, free of any graph library: taken from an ov::Model or from a file's own operator list.
struct Features {
    bool has_flops = false;     ///< shares below are of FLOPs; else of weighted operations
    double convolution_2d = 0;  ///< share of the work, 0 to 1; convolutions over two or three dimensions
    double convolution_1d = 0;  ///< over one dimension, or two of which one is 1
    double dense = 0;           ///< matrix products
    double recurrent = 0;
    int convolutions = 0;
    int matmuls = 0;
    int recurrent_ops = 0;  ///< LSTM, GRU, RNN sequences and cells, bodies included
    int svdf_ops = 0;
    int attention_blocks = 0;    ///< fused, or matrix product, softmax, matrix product
    int spectral_ops = 0;        ///< DFT, STFT and operators of audio front ends
    int estimator_ops = 0;       ///< trees, linear models, scalers of ONNX-ML
    int smooth_activations = 0;  ///< tanh, sine, … that follow a dense layer
    int embedding_bags = 0;
    int token_tables = 0;         ///< embedding tables looked up by sequences of integers from an input
    int id_tables = 0;            ///< … looked up by a fixed number of integers per sample, and nothing relates these to each other as a sequence
    std::int64_t id_fields = 0;   ///< ids looked up per sample in all
    std::int64_t table_rows = 0;  ///< of the largest table
    std::int64_t token_width =
        0;                 ///< of what tables looked up by sequences give; 0 if as many rows are in one, so that it may be a vocabulary's size
    int state_caches = 0;  ///< states, or inputs with an equal output, of rank 4: keys and values of attention
    bool vocabulary_logits = false;  ///< an output's last dimension equals the rows of a looked-up table
    bool patch_embedding = false;    ///< the first convolution's stride equals its kernel
    std::vector<Plane> planes;       ///< one per convolution that is first on a way from an input
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
};

/// @param original  its input shapes tell what is open.  @param shaped  the same graph with shapes to count at.
[[nodiscard]] Features features_of(const ov::Model& original, const ov::Model& shaped, const std::vector<TensorInfo>& inputs,
                                   const std::vector<TensorInfo>& outputs);

}  // namespace ai_vmm::graph
