// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "cli.hpp"
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
    /// @param files     more of what is given
    /// @param generate  as --random
    /// @throws Error(invalid_argument) a flag's text makes no sense.
    [[nodiscard]] InputOptions options(const std::vector<std::string>& files, bool generate = false) const;
    /// The inputs of `deployment`, in its order: what `options` give, and generated ones for the rest if they say so.
    /// @param shapes  of --shape, for generated inputs with free dimensions
    /// @throws Error(invalid_argument) unknown, repeated or missing names, values that fit no input; as Deployment::sample_inputs().
    [[nodiscard]] Inputs inputs_for(Deployment& deployment, const InputOptions& options,
                                    const std::vector<std::pair<std::string, Shape>>& shapes) const;
};

/// What `run` and `bench` have in common: a model, what goes into it, how it is deployed.
struct DeployFlags {
    LibraryOptions library;
    ConstraintOptions constraints;
    InputFlags inputs;
    std::string model;

    void add_model_to(CLI::App& app);
    void add_deployment_to(CLI::App& app);
    /// Deploys with a progress bar. @throws Error as VMM::deploy().
    [[nodiscard]] std::shared_ptr<Deployment> deploy(const Context& context, const Constraints& constraints_) const;
};

}  // namespace ai_vmm::cli
