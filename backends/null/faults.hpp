// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace ai_vmm::null_backend {

/// One thing that goes wrong. Written `point[:n][:duration]`, several separated by commas:
///
///   create           the backend can't be made: Error(unavailable)
///   enumerate        no device is found
///   supports         every model is refused
///   compile          Error(internal)
///   oom              compile() has no memory: Error(resource_exhausted)
///   import           import_blob() finds damage: Error(data_loss)
///   request          create_request() has no memory: Error(resource_exhausted)
///   run              Error(internal)
///   stall            run() hangs for the duration (default: 1 h) or until cancel(): Error(cancelled)
///   garbage          run() fills the outputs with bytes 0x55 instead of zeros
///
/// `n` picks the n-th call, counted from 1; without it every call fails. Calls of compile(), oom, import and supports are counted over the
/// backend's life, calls of request, run, stall and garbage over one executable's. Durations are "500ms" or "2s".
/// Examples: `compile`, `run:3`, `stall:2:500ms`, `oom:1,run:5`.
struct Fault {
    std::string point;
    int call = 0;  ///< 0: every call
    std::chrono::milliseconds duration = std::chrono::hours(1);
};

/// A list of faults as read from one text.
class Faults {
public:
    Faults() = default;
    /// @throws Error(invalid_argument) the text is not of the form above.
    explicit Faults(std::string_view text);

    /// The fault that strikes call number `call` (from 1) at `point`, or nullptr.
    [[nodiscard]] const Fault* at(std::string_view point, int call) const noexcept;

private:
    std::vector<Fault> faults_;
};

}  // namespace ai_vmm::null_backend
