// SPDX-License-Identifier: Apache-2.0
/// What passes over graphs with compressed weights share.
#pragma once

#include <optional>
#include <vector>

#include "graph/rewriter.hpp"

namespace ai_vmm::cuda {

/// i8, u8, i4 or u4.
[[nodiscard]] bool is_small_integer(Type type);

/// (packed - zero) * scale, all of which broadcast to the packed constant's shape; -1: absent.
struct Compressed {
    ValueId packed = -1, scale = -1, zero = -1;
};

/// The same as a matrix (1, n, k) whose scales and zeros (1, n, k / group) serve neighbours along k.
struct PackedMatrix {
    ValueId weights = -1, scale = -1, zero = -1;
    std::int64_t group = 0;
    Type packed = Type::i8;
};

/// A rewriter that recognises compressed weights.
class CompressedRewriter : public Rewriter {
public:
    using Rewriter::Rewriter;

protected:
    /// The elementwise operation of that name that gives `id`.
    [[nodiscard]] const Compute* operation(ValueId id, const char* op) const;
    /// The integer constant whose elements `id` has as floats, through views; -1: there is none.
    [[nodiscard]] ValueId integers_behind(ValueId id) const;
    /// The number that all elements of a constant are, seen through views and conversions to floats.
    [[nodiscard]] std::optional<double> uniform(ValueId id) const;
    /// What is behind views and the conversions of floats between them: those that widen, with `narrowed` all.
    /// @param chain  the views over the result
    /// @returns nothing where one of them is no reshape or transpose
    [[nodiscard]] std::optional<ValueId> behind_views(ValueId id, ViewChain& chain, bool narrowed);
    /// `id` as views over something compressed; conversions between floats may stand between them. `chain`'s source is the packed constant.
    [[nodiscard]] std::optional<Compressed> compressed_behind(ValueId id, ViewChain& chain);
    /// Matrix B of a product, (1, n, k) if `transposed`, else (1, k, n). @param unit  groups must be multiples of it
    std::optional<PackedMatrix> matrix(ValueId id, bool transposed, std::int64_t unit);

private:
    [[nodiscard]] ValueId unrounded(ValueId id) const;
    [[nodiscard]] bool is_factor(ValueId id) const;
    [[nodiscard]] std::optional<Compressed> shifted(ValueId id) const;
    [[nodiscard]] std::optional<Compressed> compressed(ValueId id) const;
    [[nodiscard]] std::vector<bool> varies(ValueId id, const ViewChain& chain) const;
    ValueId first_of_groups(ValueId part, const ViewChain& chain, std::int64_t group);
};

}  // namespace ai_vmm::cuda
