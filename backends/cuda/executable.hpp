// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ai_vmm/backend/backend.hpp"
#include "device_memory.hpp"
#include "lower/lower.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda {

/// Names of this backend's element types in the public API's terms.
[[nodiscard]] std::optional<Type> to_device(ElementType type) noexcept;
[[nodiscard]] ElementType to_public(Type type) noexcept;

/// What executables of a device share.
struct Home {
    std::shared_ptr<Device> device;
    std::shared_ptr<WeightStore> weights;
    std::shared_ptr<TensorMemory> memory;
    FindMemory find;  ///< of every device that the backend reaches
};

/// A model on one device: a program for each set of input shapes, made when the shapes are first seen. Thread-safe.
class Executable final : public backend::Executable {
public:
    /// Compiles for the model's own shapes if they are static, else for `config.typical_shapes` if they are given.
    /// @throws Error(unimplemented) an operation, type or shape that the backend does not run; Error(resource_exhausted, internal).
    Executable(const Home& home, const backend::Model& model, const backend::CompileConfig& config);

    /// What export_blob() wrote. For shapes that were not exported it needs the model, if that has open shapes: it is read again when such a shape
    /// comes, or on a thread of its own once the executable has lived for a while, so that it outlives the model's file as one that was compiled
    /// does.
    /// @throws Error(data_loss) damaged, or written for another configuration; Error(unimplemented) a model of open shapes that can't be read again;
    /// as the other constructor.
    Executable(const Home& home, std::span<const std::byte> blob, const backend::Model& model, const backend::CompileConfig& config);

    /// What the constructor would make for shapes that it knows. @throws as the constructor; Error(failed_precondition) it knows none.
    [[nodiscard]] static backend::Outline outline(const Home& home, const backend::Model& model, const backend::CompileConfig& config);

    /// Lowers `model` for these shapes and forgets the result. Where values of integer inputs would be needed, nothing is said against it.
    /// @throws Error(unimplemented) naming the operation and the reason.
    static void check(const ov::Model& model, const std::vector<Dims>& shapes);

    [[nodiscard]] std::unique_ptr<backend::Request> create_request() override;
    /// The program for the shapes that it was compiled for, and some of those for shapes that came since.
    void export_blob(std::ostream& out) const override;
    [[nodiscard]] std::int64_t memory_bytes() const override;
    [[nodiscard]] MemoryEstimate memory() const override;
    [[nodiscard]] bool reads(const MemoryPlace& place) const noexcept override { return place.is_host() || place.kind == MemoryKind::cuda; }
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> properties() const override;

    /// What a program is made for.
    struct Key {
        std::vector<Dims> shapes;         ///< of the graph's inputs
        std::vector<InputValues> values;  ///< of those inputs whose values decide shapes; else empty
        bool operator==(const Key&) const = default;
    };
    /// @throws as the constructor, Error(invalid_argument) the model refuses the shapes; as Model::read_again.
    [[nodiscard]] std::shared_ptr<const Program> program(const Key& key);

    /// A program for more rows, in which a call runs beside rows of zeros.
    struct Bucket {
        Key key;
        std::int64_t rows = 0;              ///< the call's; the program's first
        std::vector<bool> inputs, outputs;  ///< of the graph: whether the first dimension is the batch
    };
    /// Where calls of `key` run if not in a program of their own. Nothing: a program for these shapes exists or shall, since they are few rows, those
    /// that the executable was compiled for, or of a model whose rows are not proven to be independent. Costs two inferences of the model's shapes
    /// for shapes not asked for lately.
    [[nodiscard]] std::optional<Bucket> bucket(const Key& key);
    /// True for inputs of the graph whose values are part of the key: small integers, in models whose shapes or attributes depend on them.
    [[nodiscard]] bool decides(std::size_t graph_input) const noexcept { return graph_input < deciding_.size() && deciding_[graph_input]; }
    [[nodiscard]] Device& device() const noexcept { return *home_.device; }
    [[nodiscard]] const Home& home() const noexcept { return home_; }

    /// How Model::inputs and Model::outputs map to the graph's.
    struct Ports {
        std::vector<int> inputs;  ///< -1: dropped by the reader
        std::vector<int> outputs;
        std::vector<ElementType> input_types, output_types;
    };
    [[nodiscard]] const Ports& ports() const noexcept { return ports_; }

private:
    /// Sets deciding_ if the model can't be lowered without values. @returns true if it can be lowered for `shapes` alone
    bool find_deciding_inputs(const std::vector<Dims>& shapes);

    /// Programs kept for shapes seen lately.
    static constexpr std::size_t kMostPrograms = 16;

    /// Everything but a program: tells whether one can be made now, and for which shapes.
    struct Unprogrammed {};
    Executable(Unprogrammed, const Home& home, const backend::Model& model, const backend::CompileConfig& config);

    /// A process that ends soon need not read the model.
    static constexpr std::chrono::seconds kReadAfter{2};
    void read_in_background();

    /// Programs that export_blob() writes.
    static constexpr std::size_t kMostExported = 4;

    /// What programs of this executable keep on the device.
    [[nodiscard]] Program::Keep kept() const noexcept { return open_ ? Program::Keep::everything : Program::Keep::what_runs; }
    /// The graph, read again if it was not yet; null for a model of static shapes that came from a blob. Wants mutex_ to be free.
    [[nodiscard]] std::shared_ptr<const ov::Model> graph();
    /// Whether a program exists for `key`, or shall as the executable was compiled for it. Wants mutex_.
    [[nodiscard]] bool is_exact(const Key& key) const;
    /// The bucket of `shapes` and whether the proof allows it.
    [[nodiscard]] std::optional<Bucket> proven_bucket(const ov::Model& model, const std::vector<Dims>& shapes) const;

    /// Shapes whose bucket is remembered, or that they have none.
    static constexpr std::size_t kMostBuckets = 256;

    const Home home_;
    std::mutex graph_mutex_;                  ///< guards graph_ and read_again_, for as long as reading takes
    std::shared_ptr<const ov::Model> graph_;  ///< null: from a blob, and not read since
    std::function<std::shared_ptr<const backend::Model>()> read_again_;
    bool open_ = false;  ///< some shape of the model is
    Ports ports_;
    LowerOptions options_;
    std::vector<bool> deciding_;
    std::vector<Dims> shapes_;  ///< what is compiled for at once; empty: nothing is
    bool known_ = false;
    mutable std::mutex mutex_;                                            // guards programs_ and buckets_
    std::list<std::pair<Key, std::shared_ptr<const Program>>> programs_;  // last used first
    std::map<std::vector<Dims>, std::optional<Bucket>> buckets_;          // by the call's shapes
    std::jthread reader_;                                                 // reads the model again; the last member, since it uses the others
};

class Request final : public backend::Request {
public:
    explicit Request(Executable& executable) : executable_(executable) {}
    void run(std::span<const Tensor> inputs, std::span<Tensor> outputs) override;
    void cancel() noexcept override;
    [[nodiscard]] std::vector<StepTime> profile(std::span<const Tensor> inputs) override;

private:
    static constexpr std::size_t kMostExecutions = 4;

    /// A program's execution, and what calls with fewer rows need.
    struct Kept {
        Executable::Key key;
        std::unique_ptr<Execution> execution;
        std::vector<Executable::Bucket> buckets;           ///< by calls with fewer rows that have run here: their own key
        std::vector<Tensor> padded_inputs, whole_outputs;  ///< of the program's shapes; empty where the caller's own will do
        std::vector<std::int64_t> filled;                  ///< rows of padded_inputs that may not be zero
    };
    struct Found {
        Kept& kept;
        const Executable::Bucket* bucket;  ///< null: the program is for the call's own shapes
    };

    [[nodiscard]] bool has_shapes(const std::vector<Dims>& shapes, std::span<const Tensor> inputs) const;
    [[nodiscard]] bool decided_alike(const Executable::Key& key, std::span<const Tensor> inputs) const;
    [[nodiscard]] Executable::Key key_of(std::span<const Tensor> inputs) const;
    /// The execution for these inputs; in a bucket only where `may_pad`.
    Found execution_for(std::span<const Tensor> inputs, bool may_pad);
    Kept& add_execution(Executable::Key key);
    /// Copies of the inputs with the bucket's rows, zeros behind the call's.
    void pad(const Found& found, std::span<const Tensor> inputs);
    /// The call's rows of what the program gave.
    void take_rows(const Found& found, std::span<Tensor> outputs) const;
    void run_execution(Execution& execution, std::span<const Tensor> inputs, std::span<Tensor> outputs);
    Execution& run_inputs(std::span<const Tensor> inputs, std::span<Tensor> outputs);

    Executable& executable_;
    std::mutex mutex_;  // guards current_ against cancel()
    Execution* current_ = nullptr;
    std::atomic<bool> cancelled_ = false;
    bool running_ = false;
    std::list<Kept> executions_;                      // last used first
    std::vector<Tensor> brought_;                     // inputs that decide shapes, when a device has them
    std::vector<Endpoint> inputs_, outputs_;          // of the program
    std::vector<std::vector<std::byte>> duplicates_;  // outputs that nobody asks for
};

}  // namespace ai_vmm::cuda
