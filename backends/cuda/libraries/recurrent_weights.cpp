// SPDX-License-Identifier: Apache-2.0
#include "libraries/recurrent_weights.hpp"

#include <cstring>
#include <string>

#include "ai_vmm/error.hpp"
#include "libraries/specs.hpp"

namespace ai_vmm::cuda {
namespace {

/// cuDNN's gate -> OpenVINO's gate: (i, f, c, o) from (f, i, c, o), and (r, z, h) from (z, r, h).
int source_gate(RecurrentSpec::Cell cell, int gate) {
    const bool swaps = cell == RecurrentSpec::Cell::lstm || cell == RecurrentSpec::Cell::gru_reset_after;
    return swaps && gate < 2 ? 1 - gate : gate;
}

void require_size(const RecurrentSpec& spec, const char* what, std::size_t expected, std::size_t found) {
    if (expected == found) return;
    throw Error(ErrorCode::invalid_argument, ErrorCategory::compilation,
                std::string("the ") + what + " of '" + to_string(spec) + "' have another size",
                {.expected = std::to_string(expected) + " bytes", .found = std::to_string(found) + " bytes", .advice = {}});
}

}  // namespace

int gates(RecurrentSpec::Cell cell) noexcept {
    switch (cell) {
        case RecurrentSpec::Cell::lstm: return 4;
        case RecurrentSpec::Cell::gru_reset_after: return 3;
        default: return 1;
    }
}

std::vector<std::byte> pack_weights(const RecurrentSpec& spec, const RecurrentLayout& layout, std::span<const std::byte> w,
                                    std::span<const std::byte> r, std::span<const std::byte> b) {
    const int count = gates(spec.cell);
    const bool gru = spec.cell == RecurrentSpec::Cell::gru_reset_after;
    const int biases = gru ? 4 : count;
    const auto directions = static_cast<std::size_t>(spec.directions);
    const std::size_t bias_bytes = static_cast<std::size_t>(spec.hidden * bits(spec.type) / 8);
    const std::size_t w_bytes = bias_bytes * static_cast<std::size_t>(spec.input);
    const std::size_t r_bytes = bias_bytes * static_cast<std::size_t>(spec.hidden);
    require_size(spec, "input weights", directions * static_cast<std::size_t>(count) * w_bytes, w.size());
    require_size(spec, "recurrent weights", directions * static_cast<std::size_t>(count) * r_bytes, r.size());
    require_size(spec, "biases", directions * static_cast<std::size_t>(biases) * bias_bytes, b.size());

    std::vector<std::byte> packed(layout.bytes);
    for (std::size_t direction = 0; direction < directions; ++direction) {
        const auto& offsets = layout.directions.at(direction);
        for (int gate = 0; gate < count; ++gate) {
            const auto source = direction * static_cast<std::size_t>(count) + static_cast<std::size_t>(source_gate(spec.cell, gate));
            const auto bias = direction * static_cast<std::size_t>(biases) + static_cast<std::size_t>(source_gate(spec.cell, gate));
            const GateOffsets& input = offsets.at(static_cast<std::size_t>(gate));
            const GateOffsets& state = offsets.at(static_cast<std::size_t>(count + gate));
            std::memcpy(packed.data() + input.matrix, w.data() + source * w_bytes, w_bytes);
            std::memcpy(packed.data() + state.matrix, r.data() + source * r_bytes, r_bytes);
            std::memcpy(packed.data() + input.bias, b.data() + bias * bias_bytes, bias_bytes);
            if (gru && gate == 2) std::memcpy(packed.data() + state.bias, b.data() + (bias + 1) * bias_bytes, bias_bytes);
        }
    }
    return packed;
}

}  // namespace ai_vmm::cuda
