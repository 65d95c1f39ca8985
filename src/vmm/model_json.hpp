// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ai_vmm/model.hpp"
#include "ai_vmm/tensor.hpp"

namespace ai_vmm {

/// What the cache keeps of a model, as JSON and back. The from_ functions throw nlohmann::json::exception on malformed content.
[[nodiscard]] nlohmann::json tensor_infos_to_json(const std::vector<TensorInfo>& infos);
[[nodiscard]] std::vector<TensorInfo> tensor_infos_from_json(const nlohmann::json& json);
[[nodiscard]] nlohmann::json profile_to_json(const ModelProfile& profile);
[[nodiscard]] ModelProfile profile_from_json(const nlohmann::json& json);

/// Tensors as bytes (type, shape, content each; strings with lengths) and back.
[[nodiscard]] std::string pack_tensors(const std::vector<Tensor>& tensors);
/// @throws Error(data_loss) malformed.
[[nodiscard]] std::vector<Tensor> unpack_tensors(const std::string& bytes);

}  // namespace ai_vmm
