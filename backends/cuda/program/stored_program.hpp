// SPDX-License-Identifier: Apache-2.0
/// A scheduled program as bytes, for a later process: what runs, where it lies, and the weights in the layout that it reads.
#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "program/schedule.hpp"

namespace ai_vmm::cuda {

/// What a root of Schedule::weights or Schedule::prepared holds.
struct StoredWeight {
    ValueId value = -1;
    std::string recipe;                ///< equal recipes, equal contents (WeightStore::find()); empty: nothing is known of it
    std::span<const std::byte> bytes;  ///< of the bytes that were read; empty where a program before has it
};

struct StoredProgram {
    Schedule schedule;  ///< without nodes and calls; `specs` says which calls are to be made, and weights are all in `weights`
    std::vector<StoredWeight> weights;
};

/// Gives the recipe and the content of a root. The content may be left empty where a program that stands before it in the bytes has a weight of that
/// recipe.
using ReadWeight = std::function<void(ValueId root, std::string& recipe, std::vector<std::byte>& content)>;

void write_program(std::ostream& out, const Schedule& schedule, const ReadWeight& read);

/// Every count, number and place is checked: what is returned reads and writes nothing outside its own buffers, as far as that shows without
/// knowing what its kernels do.
/// @throws Error(data_loss) the bytes are none that write_program() wrote.
[[nodiscard]] StoredProgram read_program(std::span<const std::byte> bytes);

/// The first of the programs that stand one after another in `bytes`, which then are those behind it.
/// @param before  sizes by recipe of the weights of programs before it, to which its own are added
/// @throws as read_program().
[[nodiscard]] StoredProgram take_program(std::span<const std::byte>& bytes, std::map<std::string, std::size_t>& before);

}  // namespace ai_vmm::cuda
