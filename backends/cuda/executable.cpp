// SPDX-License-Identifier: Apache-2.0
#include "executable.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <set>
#include <stop_token>
#include <system_error>

#include "archive.hpp"
#include "base/log.hpp"
#include "lower/context.hpp"
#include "lower/independent_rows.hpp"
#include "openvino/op/parameter.hpp"

namespace ai_vmm::cuda {
namespace {

/// Inputs that may hold a shape, axes, a count: few integers.
bool may_decide(const ov::element::Type& type, const ov::PartialShape& shape) {
    constexpr std::int64_t kMost = 4096;
    if (!(type.is_integral_number() || type == ov::element::boolean) || shape.rank().is_dynamic() || shape.rank().get_length() > 1) return false;
    return shape.is_dynamic() || static_cast<std::int64_t>(ov::shape_size(shape.to_shape())) <= kMost;
}

}  // namespace

std::optional<Type> to_device(ElementType type) noexcept {
    for (int t = 0; t <= static_cast<int>(Type::boolean); ++t) {
        if (to_string(static_cast<Type>(t)) == to_string(type)) return static_cast<Type>(t);
    }
    return std::nullopt;
}

ElementType to_public(Type type) noexcept { return element_type_from_string(to_string(type)).value_or(ElementType::undefined); }

Executable::Executable(Unprogrammed, const Home& home, const backend::Model& model, const backend::CompileConfig& config)
    : home_(home), graph_(model.graph), open_(model.graph->is_dynamic()) {
    if (config.precision == Precision::f16) options_.float_type = Type::f16;
    if (config.precision == Precision::bf16) options_.float_type = Type::bf16;
    ports_.inputs = model.graph_inputs;
    ports_.outputs = model.graph_outputs;
    const auto type_of = [](const ov::element::Type& type, const std::string& what) {
        const auto device_type = from_openvino(type);
        if (!device_type)
            throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                        fmt::format("{} of element type {} can't be on a GPU", what, type.get_type_name()));
        return to_public(*device_type);
    };
    for (int index : ports_.inputs)
        ports_.input_types.push_back(index < 0 ? ElementType::undefined
                                               : type_of(graph_->input(static_cast<std::size_t>(index)).get_element_type(), "an input"));
    for (int index : ports_.outputs)
        ports_.output_types.push_back(type_of(graph_->output(static_cast<std::size_t>(index)).get_element_type(), "an output"));

    std::vector<Dims> shapes(graph_->inputs().size());
    bool known = true;
    for (std::size_t k = 0; k < shapes.size(); ++k) {
        const auto& shape = graph_->input(k).get_partial_shape();
        if (shape.is_static()) {
            shapes[k] = from_openvino(shape.to_shape());
            continue;
        }
        const auto port = std::find(ports_.inputs.begin(), ports_.inputs.end(), static_cast<int>(k)) - ports_.inputs.begin();
        const bool typical = static_cast<std::size_t>(port) < config.typical_shapes.size() && !config.typical_shapes.empty();
        if (typical) shapes[k] = config.typical_shapes[static_cast<std::size_t>(port)];
        known = known && typical;
    }
    if (!known) {
        // Whether values matter shows with shapes; any will do that the model takes.
        for (std::size_t k = 0; k < shapes.size(); ++k) {
            const auto& shape = graph_->input(k).get_partial_shape();
            if (shape.rank().is_dynamic()) continue;
            shapes[k].clear();
            for (const auto& dimension : shape)
                shapes[k].push_back(
                    dimension.is_static()
                        ? dimension.get_length()
                        : std::clamp<std::int64_t>(2, dimension.get_min_length(), dimension.get_max_length() < 0 ? 2 : dimension.get_max_length()));
        }
        try {
            (void)find_deciding_inputs(shapes);
        } catch (const Error&) {  // the shapes that are asked for will tell
        }
        return;
    }
    shapes_ = shapes;
    known_ = find_deciding_inputs(shapes);
}

Executable::Executable(const Home& home, const backend::Model& model, const backend::CompileConfig& config)
    : Executable(Unprogrammed{}, home, model, config) {
    if (known_) (void)program({shapes_, {}});
}

namespace {

/// Inputs that may decide something, if the model can't be lowered for its shapes alone; empty if it can.
std::vector<bool> deciding_inputs(const ov::Model& model, const std::vector<Dims>& shapes, const LowerOptions& options) {
    try {
        (void)lower(with_shapes(model, shapes), options);
        return {};
    } catch (const Error&) {
        std::vector<bool> deciding;
        for (const auto& port : model.inputs()) deciding.push_back(may_decide(port.get_element_type(), port.get_partial_shape()));
        if (std::none_of(deciding.begin(), deciding.end(), [](bool one) { return one; })) throw;
        // Values help with shapes and attributes, not with operations that have no lowering.
        if (!missing_operations(*with_shapes(model, shapes)).empty()) throw;
        return deciding;
    }
}

}  // namespace

backend::Outline Executable::outline(const Home& home, const backend::Model& model, const backend::CompileConfig& config) {
    const Executable made(Unprogrammed{}, home, model, config);
    if (!made.known_) {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::compilation, "the model's shapes are open, so nothing can be scheduled yet",
                    {.expected = "shapes for every input", .found = {}, .advice = "give the inputs' shapes"});
    }
    const Schedule schedule = make_schedule(lower(with_shapes(*made.graph_, made.shapes_), made.options_), *home.device);
    MemoryEstimate memory = memory_of(schedule, made.kept());
    memory.context = home.device->context_bytes();  // behind the schedule, which needs the libraries
    return {memory, print(schedule)};
}

void Executable::check(const ov::Model& model, const std::vector<Dims>& shapes) { (void)deciding_inputs(model, shapes, {}); }

bool Executable::find_deciding_inputs(const std::vector<Dims>& shapes) {
    deciding_ = deciding_inputs(*graph_, shapes, options_);
    return deciding_.empty();
}

std::shared_ptr<const Program> Executable::program(const Key& key) {
    const auto known = [&]() -> std::shared_ptr<const Program> {
        const auto found = std::find_if(programs_.begin(), programs_.end(), [&](const auto& entry) { return entry.first == key; });
        if (found == programs_.end()) return nullptr;
        programs_.splice(programs_.begin(), programs_, found);
        return programs_.front().second;
    };
    {
        const std::lock_guard lock(mutex_);
        if (auto program = known()) return program;
    }
    const std::shared_ptr<const ov::Model> model = graph();
    if (!model) {
        throw Error(
            ErrorCode::invalid_argument, ErrorCategory::runtime, "the model was compiled for other shapes",
            {.expected = fmt::format("[{}]", fmt::join(shapes_, "], [")), .found = fmt::format("[{}]", fmt::join(key.shapes, "], [")), .advice = {}});
    }
    const std::lock_guard lock(mutex_);
    if (auto program = known()) return program;  // another request made it meanwhile
    auto made = std::make_shared<const Program>(home_.device, lower(with_shapes(*model, key.shapes, key.values), options_), home_.weights, kept());
    programs_.emplace_front(key, made);
    if (programs_.size() > kMostPrograms) programs_.pop_back();
    return made;
}

bool Executable::is_exact(const Key& key) const {
    return (known_ && key.shapes == shapes_) || std::ranges::any_of(programs_, [&](const auto& entry) { return entry.first == key; });
}

std::optional<Executable::Bucket> Executable::bucket(const Key& key) {
    if (!open_ || std::ranges::find(deciding_, true) != deciding_.end()) return std::nullopt;
    {
        const std::lock_guard lock(mutex_);
        if (is_exact(key)) return std::nullopt;
        if (const auto found = buckets_.find(key.shapes); found != buckets_.end()) return found->second;
    }
    std::optional<Bucket> proven = proven_bucket(*graph(), key.shapes);
    const std::lock_guard lock(mutex_);
    if (buckets_.size() >= kMostBuckets) buckets_.clear();
    return buckets_.emplace(key.shapes, std::move(proven)).first->second;
}

namespace {

/// Exact up to 2, then powers of two and the halves between them, so that at most a third of the rows are for nothing.
std::int64_t bucket_of(std::int64_t rows) {
    std::int64_t power = 1;
    while (power < rows) power *= 2;
    const std::int64_t between = power / 4 * 3;
    return between >= rows ? between : power;
}

}  // namespace

std::optional<Executable::Bucket> Executable::proven_bucket(const ov::Model& model, const std::vector<Dims>& shapes) const {
    constexpr std::int64_t kMostRows = std::int64_t{1} << 32;
    Bucket made{{shapes, {}}, 0, {}, {}};
    for (std::size_t k = 0; k < shapes.size(); ++k) {
        const auto& shape = model.input(k).get_partial_shape();
        if (shape.rank().is_dynamic()) return std::nullopt;
        const bool batched = shape.size() != 0 && shape.size() == shapes[k].size() && shape[0].is_dynamic();
        made.inputs.push_back(batched);
        if (!batched) continue;
        if (made.rows != 0 && made.rows != shapes[k][0]) return std::nullopt;
        made.rows = shapes[k][0];
    }
    if (made.rows <= 2 || made.rows > kMostRows) return std::nullopt;
    std::int64_t size = bucket_of(made.rows);
    for (std::size_t k = 0; k < shapes.size(); ++k) {
        const auto most = made.inputs[k] ? model.input(k).get_partial_shape()[0].get_max_length() : -1;
        if (most >= made.rows) size = std::min<std::int64_t>(size, most);
    }
    if (size == made.rows) return std::nullopt;
    const auto by_rows = independent_rows(model, shapes, {made.rows, size, made.inputs});
    if (!by_rows) return std::nullopt;
    made.outputs = *by_rows;
    for (std::size_t k = 0; k < shapes.size(); ++k) {
        if (made.inputs[k]) made.key.shapes[k][0] = size;
    }
    return made;
}

std::shared_ptr<const ov::Model> Executable::graph() {
    const std::lock_guard lock(graph_mutex_);
    if (graph_ || !read_again_) return graph_;
    const std::shared_ptr<const backend::Model> model = read_again_();
    const auto fits = [](const std::vector<int>& ports, std::size_t count) {
        return std::ranges::all_of(ports, [&](int port) { return port < static_cast<int>(count); });
    };
    if (model == nullptr || !model->graph || model->graph->inputs().size() != shapes_.size() ||
        !fits(ports_.outputs, model->graph->outputs().size())) {
        throw Error(ErrorCode::failed_precondition, ErrorCategory::runtime,
                    "the model that was read again is another one than that which was compiled");
    }
    graph_ = {model, model->graph.get()};  // others who read it again find it as long as it is held
    read_again_ = nullptr;
    return graph_;
}

void Executable::read_in_background() {
    const auto read = [this](const std::stop_token& stop) {
        std::mutex mutex;
        std::unique_lock lock(mutex);
        std::condition_variable_any().wait_for(lock, stop, kReadAfter, [] { return false; });
        if (stop.stop_requested()) return;
        try {
            (void)graph();
        } catch (const std::exception& error) {  // who needs it is told
            base::log_debug(std::string("cuda: the model is not read again: ") + error.what());
        }
    };
    try {
        reader_ = std::jthread(read);
    } catch (const std::system_error&) {  // no thread: it is read when it is needed
    }
}

namespace {

constexpr std::string_view kBlobFormat = "ai_vmm cuda executable 2\n";

/// Ahead of the programs.
struct BlobHead {
    std::string device;
    Type float_type = Type::f32;
    bool open = false;
    Executable::Ports ports;
    std::vector<std::vector<Dims>> shapes;  ///< per program; of the first, what was compiled for
};

template <typename A>
void fields(A& a, BlobHead& head) {
    a(head.device, head.float_type, head.open, head.ports.inputs, head.ports.outputs, head.ports.input_types, head.ports.output_types, head.shapes);
}

}  // namespace

void Executable::export_blob(std::ostream& out) const {
    const std::lock_guard lock(mutex_);
    if (!known_) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "what was compiled for no shapes in particular is not exported");
    }
    std::vector<std::pair<std::vector<Dims>, const Program*>> exported;
    for (const auto& [key, program] : programs_) {
        if (key.shapes == shapes_)
            exported.emplace(exported.begin(), key.shapes, program.get());
        else if (!program->schedule().has_host_steps())
            exported.emplace_back(key.shapes, program.get());
    }
    if (exported.empty() || exported.front().first != shapes_)
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "the program for the shapes that were compiled for is gone");
    if (exported.size() > kMostExported) exported.resize(kMostExported);
    BlobHead head{home_.device->capabilities().name, options_.float_type, open_, ports_, {}};
    for (const auto& [shapes, program] : exported) head.shapes.push_back(shapes);
    out << kBlobFormat;
    Writer writer(out);
    writer(head);
    std::set<std::string> written;
    for (const auto& [shapes, program] : exported) program->write_to(out, &written);
}

Executable::Executable(const Home& home, std::span<const std::byte> blob, const backend::Model& model, const backend::CompileConfig& config)
    : home_(home) {
    const auto refuse = [](const char* why) { throw Error(ErrorCode::data_loss, ErrorCategory::compilation, std::string("the cuda blob ") + why); };
    const std::string_view text(reinterpret_cast<const char*>(blob.data()), blob.size());
    if (!text.starts_with(kBlobFormat)) refuse("has another format");
    Reader reader(blob.subspan(kBlobFormat.size()));
    BlobHead head;
    reader(head);
    if (config.precision == Precision::f16) options_.float_type = Type::f16;
    if (config.precision == Precision::bf16) options_.float_type = Type::bf16;
    if (head.float_type != options_.float_type) refuse("was written for another precision");
    if (head.device != home_.device->capabilities().name) refuse("was written for another device");
    if (head.shapes.empty()) refuse("holds no program");
    if (head.open && !model.read_again)
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation,
                    "a model with open shapes must be readable again, for shapes that were not exported");
    const auto fits = [](const std::vector<int>& ports, const std::vector<ElementType>& types, std::size_t count) {
        return ports.size() == types.size() && std::ranges::all_of(ports, [&](int port) { return port >= -1 && port < static_cast<int>(count); });
    };
    std::span<const std::byte> rest = reader.rest();
    std::map<std::string, std::size_t> before;
    std::vector<StoredProgram> stored;
    for (const std::vector<Dims>& shapes : head.shapes) {
        const Graph& graph = stored.emplace_back(take_program(rest, before)).schedule.graph;
        bool whole = fits(head.ports.inputs, head.ports.input_types, graph.inputs.size()) &&
                     fits(head.ports.outputs, head.ports.output_types, graph.outputs.size()) &&
                     std::ranges::find(head.ports.outputs, -1) == head.ports.outputs.end() && shapes.size() == graph.inputs.size();
        for (std::size_t k = 0; whole && k < shapes.size(); ++k) whole = graph.value(graph.inputs[k]).dims == shapes[k];
        if (!whole) refuse("has ports that its program has not");
    }
    if (!rest.empty()) refuse("is longer than its programs");
    ports_ = std::move(head.ports);
    shapes_ = head.shapes.front();
    open_ = head.open;
    if (open_) read_again_ = model.read_again;
    known_ = true;
    for (std::size_t k = 0; k < stored.size(); ++k)
        programs_.emplace_back(Key{head.shapes[k], {}}, std::make_shared<const Program>(home_.device, std::move(stored[k]), home_.weights));
    if (open_) read_in_background();
}

std::unique_ptr<backend::Request> Executable::create_request() { return std::make_unique<Request>(*this); }

std::int64_t Executable::memory_bytes() const { return memory().device_bytes(); }

MemoryEstimate Executable::memory() const {
    const std::lock_guard lock(mutex_);
    return programs_.empty() ? MemoryEstimate{} : memory_of(programs_.front().second->schedule(), kept());
}

std::vector<std::pair<std::string, std::string>> Executable::properties() const {
    std::vector<std::pair<std::string, std::string>> all{{"DEVICE", home_.device->capabilities().name},
                                                         {"PRECISION", std::string(to_string(options_.float_type))}};
    const std::lock_guard lock(mutex_);
    all.emplace_back("PROGRAMS", std::to_string(programs_.size()));
    if (programs_.empty()) return all;
    const Schedule& schedule = programs_.front().second->schedule();
    const auto count = [&](Step::Kind kind) {
        return std::to_string(std::count_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& step) { return step.kind == kind; }));
    };
    all.emplace_back("KERNELS", count(Step::Kind::kernel));
    all.emplace_back("LIBRARY_CALLS", count(Step::Kind::library));
    all.emplace_back("HOST_STEPS", count(Step::Kind::host));
    all.emplace_back("WEIGHT_BYTES", std::to_string(programs_.front().second->weight_bytes()));
    all.emplace_back("ARENA_BYTES", std::to_string(schedule.arena_bytes));
    all.emplace_back("WORKSPACE_BYTES", std::to_string(schedule.workspace_bytes));
    return all;
}

namespace {

std::span<const std::byte> bytes_of(const Tensor& tensor) { return {static_cast<const std::byte*>(tensor.data()), tensor.size_bytes()}; }

/// Whether rows are copied where the tensor lies, each of whole bytes.
bool is_padded_here(const Tensor& tensor) { return tensor.place().is_host() && bit_width(tensor.type()) % 8 == 0; }

}  // namespace

bool Request::has_shapes(const std::vector<Dims>& shapes, std::span<const Tensor> inputs) const {
    const Executable::Ports& ports = executable_.ports();
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        if (ports.inputs[k] >= 0 && shapes[static_cast<std::size_t>(ports.inputs[k])] != inputs[k].shape()) return false;
    }
    return true;
}

bool Request::decided_alike(const Executable::Key& key, std::span<const Tensor> inputs) const {
    const Executable::Ports& ports = executable_.ports();
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        if (ports.inputs[k] < 0 || !executable_.decides(static_cast<std::size_t>(ports.inputs[k]))) continue;
        if (!std::ranges::equal(key.values[static_cast<std::size_t>(ports.inputs[k])], bytes_of(inputs[k]))) return false;
    }
    return true;
}

Executable::Key Request::key_of(std::span<const Tensor> inputs) const {
    const Executable::Ports& ports = executable_.ports();
    Executable::Key key;
    key.shapes.resize(static_cast<std::size_t>(std::count_if(ports.inputs.begin(), ports.inputs.end(), [](int index) { return index >= 0; })));
    key.values.resize(key.shapes.size());
    bool valued = false;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        if (ports.inputs[k] < 0) continue;
        const auto port = static_cast<std::size_t>(ports.inputs[k]);
        key.shapes.at(port) = inputs[k].shape();
        if (!executable_.decides(port)) continue;
        const auto bytes = bytes_of(inputs[k]);
        key.values[port].assign(bytes.begin(), bytes.end());
        valued = true;
    }
    if (!valued) key.values.clear();
    return key;
}

Request::Found Request::execution_for(std::span<const Tensor> inputs, bool may_pad) {
    const auto use = [&](std::list<Kept>::iterator kept) -> Kept& {
        executions_.splice(executions_.begin(), executions_, kept);
        return executions_.front();
    };
    for (auto kept = executions_.begin(); kept != executions_.end(); ++kept) {
        if (has_shapes(kept->key.shapes, inputs) && decided_alike(kept->key, inputs)) return {use(kept), nullptr};
    }
    for (auto kept = executions_.begin(); may_pad && kept != executions_.end(); ++kept) {
        for (const Executable::Bucket& bucket : kept->buckets) {
            if (has_shapes(bucket.key.shapes, inputs)) return {use(kept), &bucket};
        }
    }
    Executable::Key key = key_of(inputs);
    auto bucket = may_pad ? executable_.bucket(key) : std::nullopt;
    if (!bucket) return {add_execution(std::move(key)), nullptr};
    const auto same = std::ranges::find(executions_, bucket->key, &Kept::key);
    Kept* kept = nullptr;
    try {
        kept = same == executions_.end() ? &add_execution(bucket->key) : &use(same);
    } catch (const Error&) {  // the call's own rows may still find the memory; and errors name its shapes
        return {add_execution(std::move(key)), nullptr};
    }
    bucket->key = std::move(key);
    kept->buckets.push_back(std::move(*bucket));
    return {*kept, &kept->buckets.back()};
}

Request::Kept& Request::add_execution(Executable::Key key) {
    auto execution = std::make_unique<Execution>(executable_.program(key));
    executions_.push_front({std::move(key), std::move(execution), {}, {}, {}, {}});
    if (executions_.size() > kMostExecutions) executions_.pop_back();
    return executions_.front();
}

void Request::pad(const Found& found, std::span<const Tensor> inputs) {
    const Executable::Ports& ports = executable_.ports();
    auto& [kept, bucket] = found;
    kept.padded_inputs.resize(inputs.size());
    kept.filled.resize(inputs.size(), 0);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        const auto port = static_cast<std::size_t>(std::max(ports.inputs[k], 0));
        Tensor& padded = kept.padded_inputs[k];
        if (ports.inputs[k] < 0) continue;
        if (!bucket->inputs[port]) {  // read during the call alone
            padded = Tensor::borrow(inputs[k].type(), inputs[k].shape(), const_cast<void*>(inputs[k].data()));
            continue;
        }
        if (padded.empty()) padded = Tensor(inputs[k].type(), kept.key.shapes[port]);
        auto* to = static_cast<std::byte*>(padded.data());
        const std::size_t bytes = inputs[k].size_bytes();
        std::memcpy(to, inputs[k].data(), bytes);
        // Zeros are indices into anything, and what earlier calls left is nobody's.
        const std::size_t row = bytes / static_cast<std::size_t>(bucket->rows);
        const auto left = static_cast<std::size_t>(std::max<std::int64_t>(kept.filled[k] - bucket->rows, 0));
        std::memset(to + bytes, 0, left * row);
        kept.filled[k] = bucket->rows;
    }
}

void Request::take_rows(const Found& found, std::span<Tensor> outputs) const {
    const Executable::Ports& ports = executable_.ports();
    const auto& [kept, bucket] = found;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        const Tensor& whole = kept.whole_outputs[k];
        Shape shape = whole.shape();
        if (bucket->outputs[static_cast<std::size_t>(ports.outputs[k])]) shape[0] = bucket->rows;
        if (outputs[k].type() != whole.type() || outputs[k].shape() != shape) outputs[k] = Tensor(whole.type(), shape);
        std::memcpy(outputs[k].data(), whole.data(), outputs[k].size_bytes());
    }
}

void Request::run(std::span<const Tensor> inputs, std::span<Tensor> outputs) { (void)run_inputs(inputs, outputs); }

std::vector<StepTime> Request::profile(std::span<const Tensor> inputs) {
    std::vector<Tensor> outputs(executable_.ports().outputs.size());
    std::vector<StepTime> steps;
    for (auto& [label, us] : run_inputs(inputs, outputs).profile()) steps.push_back({std::move(label), us});
    return steps;
}

Execution& Request::run_inputs(std::span<const Tensor> given, std::span<Tensor> outputs) {
    const Executable::Ports& ports = executable_.ports();
    if (given.size() != ports.inputs.size() || outputs.size() != ports.outputs.size()) {
        throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "run() needs one tensor per input and output of the model");
    }
    bool brings = false;
    for (std::size_t k = 0; k < given.size(); ++k) {
        if (ports.inputs[k] < 0) continue;
        if (given[k].empty())
            throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "the cuda backend needs a value for every input that the graph uses");
        if (given[k].type() != ports.input_types[k]) {
            throw Error(ErrorCode::invalid_argument, ErrorCategory::runtime, "an input has another element type than the compiled model",
                        {.expected = std::string(to_string(ports.input_types[k])), .found = std::string(to_string(given[k].type())), .advice = {}});
        }
        brings = brings || (!given[k].place().is_host() && executable_.decides(static_cast<std::size_t>(ports.inputs[k])));
    }
    const Home& home = executable_.home();
    if (const std::string failure = home.device->failure(); !failure.empty()) {
        throw Error(ErrorCode::unavailable, ErrorCategory::runtime, "the device has failed: " + failure);
    }
    {
        const std::lock_guard lock(mutex_);
        running_ = true;
        cancelled_ = false;
    }
    struct Finish {
        Request& request;
        ~Finish() {
            const std::lock_guard lock(request.mutex_);
            request.running_ = false;
            request.current_ = nullptr;
            request.brought_.clear();
        }
    } finish{*this};
    std::span<const Tensor> inputs = given;
    if (brings) {  // the host must see what decides shapes
        brought_.assign(given.begin(), given.end());
        for (std::size_t k = 0; k < brought_.size(); ++k) {
            if (ports.inputs[k] < 0 || brought_[k].place().is_host() || !executable_.decides(static_cast<std::size_t>(ports.inputs[k]))) continue;
            Tensor here;
            copy_tensor(brought_[k], here, home.find);
            brought_[k] = std::move(here);
        }
        inputs = brought_;
    }
    const bool on_host = std::ranges::all_of(given, is_padded_here) && std::ranges::all_of(outputs, is_padded_here);
    const Found found = execution_for(inputs, on_host);
    Execution& execution = *found.kept.execution;
    {
        const std::lock_guard lock(mutex_);
        if (cancelled_) throw Error(ErrorCode::cancelled, ErrorCategory::runtime, "the execution was cancelled");
        current_ = &execution;
    }
    if (found.bucket == nullptr) {
        run_execution(execution, inputs, outputs);
        return execution;
    }
    pad(found, inputs);
    found.kept.whole_outputs.resize(outputs.size());
    run_execution(execution, found.kept.padded_inputs, found.kept.whole_outputs);
    take_rows(found, outputs);
    return execution;
}

void Request::run_execution(Execution& execution, std::span<const Tensor> inputs, std::span<Tensor> outputs) {
    const Executable::Ports& ports = executable_.ports();
    const Home& home = executable_.home();
    const Graph& graph = execution.program().schedule().graph;
    inputs_.assign(graph.inputs.size(), {});
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        if (ports.inputs[k] >= 0) inputs_[static_cast<std::size_t>(ports.inputs[k])] = endpoint_of(inputs[k], *home.device, home.find);
    }
    outputs_.assign(graph.outputs.size(), {});
    duplicates_.clear();
    std::vector<std::pair<std::size_t, std::size_t>> repeated;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        const auto port = static_cast<std::size_t>(ports.outputs[k]);
        const Value& value = graph.value(graph.outputs[port]);
        if (outputs[k].empty() || outputs[k].type() != ports.output_types[k] || outputs[k].shape() != value.dims) {
            const MemoryPlace place = outputs[k].place();
            outputs[k] =
                place.is_host() ? Tensor(ports.output_types[k], value.dims) : home.find(place.device).make(ports.output_types[k], value.dims);
        }
        const auto first = std::find(ports.outputs.begin(), ports.outputs.end(), ports.outputs[k]) - ports.outputs.begin();
        if (static_cast<std::size_t>(first) != k) {
            repeated.emplace_back(k, static_cast<std::size_t>(first));
        } else {
            outputs_[port] = endpoint_of(outputs[k], *home.device, home.find);
        }
    }
    for (std::size_t port = 0; port < outputs_.size(); ++port) {
        if (outputs_[port].host != nullptr || outputs_[port].on_device()) continue;
        const Value& value = graph.value(graph.outputs[port]);
        duplicates_.emplace_back(std::max<std::size_t>(static_cast<std::size_t>(bytes(value.type, value.dims)), 1));
        outputs_[port].host = duplicates_.back().data();
    }
    try {
        execution.run(inputs_, outputs_);
    } catch (const Error& error) {
        // What the device doesn't survive is told apart from what a request didn't: others answer from now on.
        if (home.device->failure().empty()) throw;
        throw Error(ErrorCode::unavailable, ErrorCategory::runtime, "the device has failed: " + error.message());
    }
    for (const auto& [to, from] : repeated) copy_tensor(outputs[from], outputs[to], home.find);
}

void Request::cancel() noexcept {
    const std::lock_guard lock(mutex_);
    if (!running_) return;
    cancelled_ = true;
    if (current_ != nullptr) current_->cancel();
}

}  // namespace ai_vmm::cuda
