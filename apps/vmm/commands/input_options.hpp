// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

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
    /// @param shapes  texts of --shape
    /// @throws Error(invalid_argument).
    [[nodiscard]] InputOptions options(const std::vector<std::string>& shapes) const;
};

}  // namespace ai_vmm::cli
