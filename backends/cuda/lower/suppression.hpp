// SPDX-License-Identifier: Apache-2.0
/// Greedy non-maximum suppression: what the operations that choose a known number of boxes share.
///
/// Candidates stand in lists, the best first. A row is a class of an image: it has a list of its own, or is those of an image's list that are of its
/// class. Boxes and what is chosen are results of one Custom node:
///   1 boxes (list, candidate, 5): corners and area, as the bits of f32: floats would be narrowed in f16, and ever the same boxes must overlap too
///   much 2 out of play (row, candidate), u8 3 chosen (row, rank): their candidates 4 count (row)
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/graph.hpp"

namespace ai_vmm::cuda {

struct Suppression {
    std::int64_t images = 1, classes = 1;
    std::int64_t candidates = 1;  ///< of a list
    bool list_per_class = true;   ///< else one per image
    std::int64_t most = 0;        ///< chosen of a row; as many as there are candidates where it is more
    double threshold = 0;         ///< boxes that overlap more are not chosen both
    double offset = 0;            ///< what a width is more than the difference of its ends
    std::string absent = "0";     ///< C: whether candidate i of `list` is none of class c; what `absent` reads must be the node's inputs

    [[nodiscard]] std::int64_t rows() const { return images * classes; }
    [[nodiscard]] std::int64_t lists() const { return list_per_class ? rows() : images; }
    /// Declarations of `list`, `n` and `c` of `row`.
    [[nodiscard]] std::string of_row() const;
    /// Declarations of `list`, `i`, `n` and, where each class has a list, `c` of candidate t of all lists.
    [[nodiscard]] std::string of_candidate() const;
};

/// Results 1 to 4.
[[nodiscard]] std::vector<std::pair<Type, Dims>> suppression_results(const Suppression& what);
/// Helper functions of the phases.
[[nodiscard]] std::string suppression_functions();
/// Stores candidate i of `list`, whose corners are x0, y0, x1 and y1, in result 1. @param area  an expression
[[nodiscard]] std::string store_box(const std::string& area);
/// "NAME[5]": the box of candidate `at` of `list`.
[[nodiscard]] std::string load_box(const std::string& name, const std::string& at);
/// Chooses: fills results 2 to 4. Every row has a block of threads.
[[nodiscard]] Custom::Phase suppress(const Suppression& what);
/// For chosen box t of all rows: declares row, r and what of_row() does, returns where the row has no such box, and declares `at`, its candidate, and
/// `rank`, its place among the chosen of all classes of its image. Equal scores rank by candidates' numbers, then by classes.
/// @param score  C: the score of candidate {at} of list {list}   @param number  its number, alike
[[nodiscard]] std::string rank_among_classes(const Suppression& what, const std::string& score, const std::string& number);

}  // namespace ai_vmm::cuda
