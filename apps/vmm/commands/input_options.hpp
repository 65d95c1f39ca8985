// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "io/inputs.hpp"

namespace ai_vmm::cli {

/// Options of `run` and `bench` that say what goes into the model.
struct InputFlags {
    std::vector<std::string> given;
    bool random = false;
    std::uint64_t seed = 0;
    std::string resize;
    std::string mean;
    std::string deviation;
    double scale = 0;
    std::string quantize;
    bool bgr = false;
    std::string layout;
    int sample_rate = 0;
    std::size_t frame = 0;

    void add_to(CLI::App& app);
    /// The inputs of `deployment`, in its order: what is given, and generated ones for the rest if --random or `generate` says so.
    /// @param files    more of what is given
    /// @param shapes   of --shape, for generated inputs with free dimensions
    /// @throws Error(invalid_argument) unknown, repeated or missing names, values that fit no input; as Deployment::sample_inputs().
    [[nodiscard]] Inputs inputs_for(Deployment& deployment, const std::vector<std::string>& files,
                                    const std::vector<std::pair<std::string, Shape>>& shapes, bool generate = false) const;
};

}  // namespace ai_vmm::cli
