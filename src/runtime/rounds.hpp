// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace ai_vmm::runtime {

/// How a candidate stands after some rounds of measuring.
struct Standing {
    std::vector<double> costs;  ///< of one item, whatever the unit: times of executions, or one value per burst
    bool alive = true;          ///< still measured

    [[nodiscard]] double median() const;
    /// What it costs when nothing disturbs it: the quickest tenth ends here.
    [[nodiscard]] double undisturbed() const;
};

/// Which candidates are measured again, and for how long: the time goes to those that may still turn out best. Knows numbers only.
class Rounds {
public:
    /// Few samples on a busy machine mislead: what is close gets so many rounds even when the time is up.
    static constexpr int kSure = 3;
    static constexpr int kPlanned = 6;
    /// Candidates that stay close are measured on up to here, as long as there is time.
    static constexpr int kMost = 24;
    /// A candidate with so many samples needs no more of them.
    static constexpr std::size_t kEnough = 64;

    /// Time for one burst of every candidate alive in the coming round; nothing when measuring ends.
    [[nodiscard]] std::optional<std::chrono::milliseconds> next(std::span<const Standing> standings, std::chrono::milliseconds left) const;

    /// Ends the round. Drops who is far behind: a candidate whose undisturbed cost is above the leader's median, by a margin that narrows with the
    /// rounds. One that was merely disturbed while it was measured stays.
    void finish(std::span<Standing> standings);

private:
    int done_ = 0;
};

}  // namespace ai_vmm::runtime
