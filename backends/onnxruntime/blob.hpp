// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "executable.hpp"

namespace ai_vmm::ort {

/// First bytes of a blob, and part of the backend's version: to change with what a blob holds, so that older ones in caches aren't looked at.
inline constexpr std::string_view kBlobFormat = "AVMORT01";

/// What export_blob() writes: which of the session's ports the model's inputs and outputs are, then the optimised model in ORT format.
struct Blob {
    Binding binding;
    std::shared_ptr<const std::string> model;
};

void write_blob(std::ostream& out, const Blob& blob);
/// @throws Error(data_loss) the bytes were not written by write_blob().
[[nodiscard]] Blob read_blob(std::span<const std::byte> bytes);

}  // namespace ai_vmm::ort
