// SPDX-License-Identifier: Apache-2.0
/// The device graph: a model as values with static shapes and nodes that kernels or libraries can run. It knows nothing of OpenVINO or CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "device/libraries.hpp"
#include "device/types.hpp"

namespace ai_vmm::cuda {

using ValueId = std::int32_t;

/// Bytes of a constant; `owner` keeps them alive. Row-major, 4-bit types packed.
struct ConstantData {
    std::shared_ptr<const void> owner;
    const std::byte* data = nullptr;
    std::size_t bytes = 0;
};

enum class Source : std::uint8_t { input, constant, node };

struct Value {
    Type type = Type::f32;
    Dims dims;
    Source source = Source::node;
    int index = 0;          ///< of the input (Graph::inputs) or of the node (Graph::nodes)
    ConstantData constant;  ///< where source == constant
};

/// Another look at the same elements; needs no memory of its own when its input has some.
struct View {
    enum class Kind : std::uint8_t { none, transpose, reshape, slice, broadcast };
    Kind kind = Kind::none;
    std::vector<int> permutation;  ///< transpose: output dimension d is input dimension permutation[d]
    Dims begin, step;              ///< slice: input coordinate = begin + step * output coordinate
};

/// One value per output element, from coordinates alone. `body` is C in the codegen subset: statements that end in `return EXPRESSION;`, reading
/// input K by inK(c0, c1, …) with one coordinate per dimension (a rank-0 input: inK()) and its own coordinates as i0, i1, … of type `idx`.
/// Floating-point inputs of any width read as f32 (f64 as f64), integers as themselves. The result is converted to the output's type.
struct Compute {
    std::string op;  ///< for printing and patterns: "Add", "Transpose", …
    std::string body;
    int cost = 1;                 ///< about how many arithmetic instructions the body takes; 0: moves data alone
    std::vector<double> reads{};  ///< per input: elements read per output element; missing: 1
    View view{};
    std::string expression{};  ///< of a, b, …, the inputs at broadcast coordinates, where the body is no more than that; statements if it starts with
                               ///< "const "; else empty
    std::string across{};    ///< the body for several elements side by side in a dimension that it only passes on to its one input (0 or 1): inK
                             ///< gives a VECTOR, whose elements are v[u] in EACH { … }, FILLED(x) has x in all; empty: there is no such form
    bool every_run = false;  ///< of constants alone, and yet not to be kept: it takes more memory than what it is made from
    bool each_once = false;  ///< body and `across` read every element of the one input, each once
};

/// Reductions over `axes` of an iteration space, one after another, and a result for each element of the space or each row. Bodies are as in Compute
/// with coordinates of the space; earlier reductions are s0, s1, … (f32, f64, i64 or u64 as `accumulator` says).
struct Rowwise {
    enum class Combine : std::uint8_t { sum, product, max, min };
    struct Stage {
        Combine combine = Combine::sum;
        std::string body;    ///< what to combine
        std::string finish;  ///< the reduction's value from the combined `s`: "s * 0.5f"; empty: s
    };
    std::string op;
    Dims space;
    std::vector<int> axes;  ///< reduced dimensions, ascending
    Type accumulator = Type::f32;
    std::vector<Stage> stages;
    std::string result;    ///< body of the result, s0… known; per row: i's of reduced axes are 0
    bool per_row = false;  ///< output has size 1 along `axes`; else it has the space's shape
    int cost = 4;
    std::vector<std::string> epilogues;  ///< bodies applied one after another to the result, which they read as `r`; per element alone
};

/// D = A @ B over equal, flattened batches; see MatmulSpec. Inputs: A (batch, m, k), B (batch, k, n) (either batch may be 1), then bias (n) and
/// residual where spec says so; strides in `spec` are filled by the scheduler. Output (batch, m, n).
struct Matmul {
    MatmulSpec spec;
};

/// A product as Matmul with transpose_b and one batch, whose B is (Q - zero) * scale in f32. Inputs: A (1, m, k), Q (1, n, k) of `packed`, then scale
/// (1, n, k / group; a float) and zero (as scale; a float, i8 or u8) where present, bias (n) and residual where spec says so.
struct PackedProduct {
    MatmulSpec spec;
    Type packed = Type::i8;  ///< i8, u8, i4 or u4
    std::int64_t group = 0;  ///< how many neighbours along k share a scale and a zero; divides k
    bool scale = false, zero = false;
};

/// Inputs: X (N, C, spatial..), W (K, C/groups, spatial..), then scale (K, f32), bias (K) and residual (N, K, spatial..) where spec says so, as
/// logical shapes; memory is channels-last. Transposed: W (C, K/groups, spatial..).
struct Convolution {
    ConvolutionSpec spec;
};

/// Inputs: Q (B, H, Lq, D), K (B, Hkv, Lk, D), V (B, Hkv, Lk, Dv), mask (broadcastable to B, H, Lq, Lk). Output (B, H, Lq, Dv).
struct Attention {
    AttentionSpec spec;
};

/// Squeeze and excitation of few images: every channel of X times its gate, g(second(W2 @ first(W1 @ pooled + bias 1) + bias 2)).
/// Inputs: X (N, C, spatial..), pooled (1, N, C) or its parts (N, C, parts, 1), W1 (1, squeezed, C), W2 (1, C, squeezed), then biases 1 (squeezed)
/// and 2 (C) where present. Output as X; both lie channels-last.
struct Excitation {
    Type type = Type::f32;
    std::int64_t squeezed = 0;
    std::int64_t parts = 0;  ///< of the pooled values' sums, in f32 and channels-last; 0: pooled is given
    std::string pooled;      ///< where there are parts: the body of a function of their sum s0
    bool bias1 = false, bias2 = false;
    Activation first = Activation::none, second = Activation::none;
    std::vector<std::string> gate;  ///< bodies of functions of f32 `a`, applied one after another
};

/// A recurrence over whole sequences in the layout of RecurrentSpec. Inputs: X, H0, (C0), then the results of `alternative`, the same computation in
/// other nodes. Outputs: Y, HN, (CN). Weights are f32 constants as RecurrentCall::pack_weights() takes them.
struct Recurrent {
    RecurrentSpec spec;
    ConstantData w, r, b;
    std::vector<ValueId> alternative;     ///< per output, used where no library runs the node
    std::shared_ptr<RecurrentCall> call;  ///< set by the scheduler
};

/// What the forms above can't say: kernels run in order, each with `threads` independent threads. Body: C statements with the thread's number `t`
/// (i64), inK(…) as in Compute, outK(value, c0, …) to store into output K, getK(c0, …) to read it back, atK(c0, …) for its
/// address.
struct Custom {
    struct Phase {
        std::int64_t threads = 0;
        std::string body;
        bool blocks = false;  ///< every t is a block of threads, THREAD of BLOCK, that meet at BARRIER(); they must all come there
    };
    std::string op;
    std::vector<Phase> phases;
    std::string functions;  ///< helper FUNCTIONs, placed before each phase; their names start with @
};

/// An array in host memory, as host operations see it.
struct HostArray {
    Type type = Type::f32;
    Dims dims;
    void* data = nullptr;
};

/// Runs on the processor between device work: what no kernel here does.
struct HostCall {
    std::string op;
    std::function<void(std::span<const HostArray> inputs, std::span<HostArray> outputs)> run;
};

struct Node {
    std::variant<Compute, Rowwise, Matmul, PackedProduct, Convolution, Attention, Excitation, Recurrent, Custom, HostCall> what;
    std::vector<ValueId> inputs;
    std::vector<ValueId> outputs;
    std::string name;  ///< of the model's operation it came from
};

/// Nodes are in topological order. A plain value: copy, print, change.
struct Graph {
    std::vector<Value> values;
    std::vector<Node> nodes;
    std::vector<ValueId> inputs;
    std::vector<ValueId> outputs;
    std::vector<std::string> input_names, output_names;

    [[nodiscard]] const Value& value(ValueId id) const { return values[static_cast<std::size_t>(id)]; }
    [[nodiscard]] const Node* producer(ValueId id) const {
        return value(id).source == Source::node && value(id).index >= 0 ? &nodes[static_cast<std::size_t>(value(id).index)] : nullptr;
    }
};

/// "Add", "Softmax", "Matmul", …
[[nodiscard]] std::string_view op_name(const Node& node) noexcept;
/// One line per node, constants and inputs first: for people and golden files.
[[nodiscard]] std::string print(const Graph& graph);
/// Row-major strides in elements.
[[nodiscard]] Dims row_major_strides(const Dims& dims);

/// Appends to a Graph. Errors in arguments are programming errors (assert); models are checked before.
class Builder {
public:
    enum class Sharing : std::uint8_t {
        none,
        constants  ///< equal constants (the same bytes in memory) and equal Compute nodes of constants alone are made once, as loops that unroll want
    };
    explicit Builder(Graph& graph, Sharing sharing = Sharing::none) : graph_(graph), sharing_(sharing) {}
    [[nodiscard]] Graph& graph() noexcept { return graph_; }
    [[nodiscard]] const Value& value(ValueId id) const { return graph_.value(id); }
    [[nodiscard]] const Dims& dims(ValueId id) const { return graph_.value(id).dims; }
    [[nodiscard]] Type type(ValueId id) const { return graph_.value(id).type; }
    [[nodiscard]] int rank(ValueId id) const { return static_cast<int>(dims(id).size()); }
    void set_name(std::string name) { name_ = std::move(name); }  ///< given to the nodes that follow

    ValueId input(Type type, Dims dims, std::string name);
    ValueId constant(Type type, Dims dims, ConstantData data);
    ValueId constant_f32(Dims dims, std::span<const float> values);
    ValueId constant_i64(Dims dims, std::span<const std::int64_t> values);
    void output(ValueId value, std::string name);

    ValueId compute(Type type, Dims dims, std::vector<ValueId> inputs, Compute what);
    ValueId rowwise(Type type, std::vector<ValueId> inputs, Rowwise what);
    ValueId matmul(ValueId a, ValueId b, MatmulSpec spec);
    ValueId packed_product(std::vector<ValueId> inputs, const PackedProduct& what);
    ValueId convolution(std::vector<ValueId> inputs, ConvolutionSpec spec);
    ValueId attention(std::vector<ValueId> inputs, AttentionSpec spec);
    ValueId excitation(std::vector<ValueId> inputs, Excitation what);
    std::vector<ValueId> recurrent(std::vector<ValueId> inputs, Recurrent what);
    std::vector<ValueId> custom(const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs, Custom what);
    std::vector<ValueId> host(const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs, HostCall what);

    /// Elementwise with NumPy broadcasting; `expression` reads a, b, c, …, e.g. "a + b".
    ValueId pointwise(std::string op, Type type, std::vector<ValueId> inputs, const std::string& expression, int cost = 1);
    ValueId cast(ValueId value, Type type);  ///< C conversion; floats to integers truncate, to boolean: != 0
    ValueId reshape(ValueId value, Dims dims);
    ValueId transpose(ValueId value, std::vector<int> permutation);
    ValueId slice(ValueId value, Dims begin, Dims step, Dims dims);  ///< begin and step per dimension; steps may be negative
    ValueId broadcast(ValueId value, Dims dims);                     ///< NumPy rules, right-aligned
    ValueId concat(const std::vector<ValueId>& values, int axis);

private:
    ValueId add_value(Type type, Dims dims, Source source, int index);
    std::vector<ValueId> add_node(
        const std::vector<std::pair<Type, Dims>>& outputs, std::vector<ValueId> inputs,
        std::variant<Compute, Rowwise, Matmul, PackedProduct, Convolution, Attention, Excitation, Recurrent, Custom, HostCall> what);
    [[nodiscard]] bool constant(ValueId id) const { return value(id).source == Source::constant || constant_.count(id) != 0; }

    Graph& graph_;
    const Sharing sharing_;
    std::string name_;
    std::map<std::string, ValueId> shared_;  ///< constants and nodes of constants alone, by what they are
    std::set<ValueId> constant_;             ///< results of such nodes
};

/// NumPy broadcasting of two shapes. @throws Error(invalid_argument) they don't fit.
[[nodiscard]] Dims broadcast_dims(const Dims& a, const Dims& b);
/// A C literal of `value` in the compute type of `type`: "0.5f", "INFINITY", "-3", "1e10".
[[nodiscard]] std::string literal(Type type, double value);

}  // namespace ai_vmm::cuda
