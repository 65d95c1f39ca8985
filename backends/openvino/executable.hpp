// SPDX-License-Identifier: Apache-2.0
/// A compiled model of OpenVINO, and how a Model's inputs and outputs map to its ports.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "openvino/runtime/compiled_model.hpp"

namespace ai_vmm::openvino {

/// Which port of the compiled model each of Model::inputs and Model::outputs is. Travels with an exported blob, because an
/// import may have no graph to take it from.
struct PortMap {
    std::vector<int> inputs;   ///< -1: the reader dropped the input as unused
    std::vector<int> outputs;  ///< never negative
    std::vector<int> direct;   ///< per output: 1 if the graph gives out one of its inputs as it is
    std::int64_t constant_bytes = 0;

    bool operator==(const PortMap&) const = default;
};

/// Checked mapping of `model`, which has a graph.
/// @throws Error(invalid_argument) an index is out of range, or a graph input is fed by none.
/// @throws Error(unimplemented)    an element type that can't cross the boundary.
[[nodiscard]] PortMap make_port_map(const backend::Model& model);

/// First bytes of a blob, and part of the backend's version: to change with what a blob holds, so that older ones in caches aren't looked at.
inline constexpr std::string_view kBlobFormat = "AIVMM-OV1";

/// The header of an exported blob; what follows is OpenVINO's.
void write_port_map(std::ostream& out, const PortMap& map);
/// Reads it and drops it from `blob`.
/// @throws Error(data_loss) `blob` doesn't start with one, or it doesn't fit `model`.
[[nodiscard]] PortMap read_port_map(std::span<const std::byte>& blob, const backend::Model& model);

/// How many compiled models serve the streams of `config`, each for its share of them. Streams of one compiled model hand every execution through the
/// engine's scheduler, which binds and wakes threads and costs small models up to a third of their throughput; a model of a single stream runs on the
/// caller's thread. Streams of one thread each therefore have a model of their own as long as the copies stay small.
[[nodiscard]] int models_for(const backend::CompileConfig& config, std::int64_t constant_bytes) noexcept;

/// How each of so many models is compiled.
[[nodiscard]] backend::CompileConfig share_of(const backend::CompileConfig& config, int models);

class Executable final : public backend::Executable {
public:
    /// @param compiled  the same model, models_for() times, each for share_of() `config`; requests take turns with them
    /// @throws Error(unimplemented) what the engine says it uses is not what `config` asks for.
    Executable(std::vector<ov::CompiledModel> compiled, PortMap map, const backend::CompileConfig& config);

    [[nodiscard]] std::unique_ptr<backend::Request> create_request() override;
    [[nodiscard]] std::int64_t memory_bytes() const override;
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override;
    void export_blob(std::ostream& out) const override;

private:
    static void check_config(const ov::CompiledModel& compiled, const backend::CompileConfig& config);

    std::vector<ov::CompiledModel> compiled_;
    std::atomic<std::size_t> requests_{0};
    PortMap map_;
};

}  // namespace ai_vmm::openvino
