// SPDX-License-Identifier: Apache-2.0
/// Threads, cancellation, and memory over many rounds.
#include <unistd.h>

#include <atomic>
#include <exception>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "models.hpp"
#include "reference.hpp"

namespace ai_vmm::conformance {
namespace {

/// Runs `work(i)` on `count` threads; the first exception of any is rethrown.
void on_threads(int count, const std::function<void(int)>& work) {
    std::mutex mutex;
    std::exception_ptr first;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < count; ++i) {
            threads.emplace_back([&, i] {
                try {
                    work(i);
                } catch (...) {
                    const std::scoped_lock lock(mutex);
                    if (!first) first = std::current_exception();
                }
            });
        }
    }
    if (first) std::rethrow_exception(first);
}

void requests_in_parallel(const Subject& subject) {
    for (const auto& [size, dynamic] : {std::pair{64, false}, {20000, false}, {64, true}, {20000, true}}) {
        const Running running = start(subject, affine_model(dynamic ? ov::PartialShape{-1} : ov::PartialShape{size}));
        on_threads(4, [&, size = size](int thread) {
            const auto request = running.executable->create_request();
            std::vector<Tensor> outputs(1);
            for (std::uint32_t round = 0; round < 30; ++round) {
                const Array x = spread({size}, -1, 1, round * 4 + static_cast<std::uint32_t>(thread));
                request->run(std::vector{f32(x)}, outputs);
                require_f32(subject, outputs[0], affine(x), "thread " + std::to_string(thread));
            }
        });
    }
}

/// Opening ahead of, beside and after compiling changes nothing.
void prepare_beside_compile(const Subject& subject) {
    subject.backend->prepare("NO_SUCH_DEVICE");
    on_threads(4, [&](int thread) {
        if (thread % 2 == 0) subject.backend->prepare(subject.config().device);
        const Running running = start(subject, affine_model({64}));
        const auto request = running.executable->create_request();
        std::vector<Tensor> outputs(1);
        const Array x = spread({64}, -1, 1, static_cast<std::uint32_t>(thread));
        request->run(std::vector{f32(x)}, outputs);
        require_f32(subject, outputs[0], affine(x), "thread " + std::to_string(thread));
        subject.backend->prepare(subject.config().device);
    });
}

void streams_in_parallel(const Subject& subject) {
    backend::CompileConfig config = subject.config();
    config.streams = 2;
    config.throughput = true;
    const backend::Model model = affine_model({1000});
    std::unique_ptr<backend::Executable> executable;
    try {
        executable = subject.backend->compile(model, config);
    } catch (const Error& error) {
        require(error.code() == ErrorCode::unimplemented, std::string("two streams: ") + error.what());
        throw Skipped(std::string("two streams are refused: ") + error.what());
    }
    on_threads(4, [&](int thread) {
        const auto request = executable->create_request();
        const Array x = spread({1000}, -1, 1, static_cast<std::uint32_t>(thread));
        std::vector<Tensor> outputs(1);
        for (int round = 0; round < 30; ++round) request->run(std::vector{f32(x)}, outputs);
        require_f32(subject, outputs[0], affine(x), "thread " + std::to_string(thread));
    });
}

void compiles_in_parallel(const Subject& subject) {
    const backend::Model shared = affine_model({8, 8});
    static_cast<void>(start(subject, shared));
    on_threads(4, [&](int thread) {
        for (int round = 0; round < 4; ++round) {
            const backend::Model own = affine_model({4 + thread});
            const auto first = subject.backend->compile(round % 2 == 0 ? shared : own, subject.config());
            const Array x = round % 2 == 0 ? spread({8, 8}, -1, 1) : spread({4 + thread}, -1, 1);
            std::vector<Tensor> outputs(1);
            first->create_request()->run(std::vector{f32(x)}, outputs);
            require_f32(subject, outputs[0], affine(x), "compiled on thread " + std::to_string(thread));
            static_cast<void>(first->properties());
            static_cast<void>(subject.backend->supports(shared, subject.config()));
        }
    });
}

void executables_side_by_side(const Subject& subject) {
    const Running narrow = start(subject, affine_model({16}));
    const Running wide = start(subject, deep_model(32, 3));
    const Array x = spread({16}, -1, 1);
    const Array m = spread({32, 32}, -1, 1);
    const auto first = wide.run({f32(m)});
    for (int round = 0; round < 20; ++round) {
        require_f32(subject, narrow.run({f32(x)})[0], affine(x), "beside another model");
        const auto again = wide.run({f32(m)});
        if (subject.computes) require_f32(subject, again[0], to_array(first[0]), "the same run again");
    }
}

void cancel_when_idle(const Subject& subject) {
    const Running running = start(subject, affine_model({16}));
    const Array x = spread({16}, -1, 1);
    running.request->cancel();
    require_f32(subject, running.run({f32(x)})[0], affine(x), "a run after an idle cancel()");
    running.request->cancel();
    running.request->cancel();
    require_f32(subject, running.run({f32(x)})[0], affine(x), "a run after idle cancels");
}

/// Cancels `running` again and again while it runs, until a run has ended as cancelled; then the request must still work.
void cancel_until_felt(const Subject& subject, const Running& running, const std::vector<Tensor>& inputs) {
    if (!subject.computes) throw Skipped("the backend is done at once");
    const auto undisturbed = running.run(inputs);
    bool felt = false;
    for (int attempt = 0; attempt < 5 && !felt; ++attempt) {
        std::atomic<bool> done = false;
        std::jthread canceller([&] {
            while (!done) {
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
                running.request->cancel();
            }
        });
        std::optional<Error> error;
        std::exception_ptr foreign;
        try {
            static_cast<void>(running.run(inputs));
        } catch (const Error& thrown) {
            error = thrown;
        } catch (...) {
            foreign = std::current_exception();
        }
        done = true;
        canceller.join();
        if (foreign) std::rethrow_exception(foreign);
        require(!error || error->code() == ErrorCode::cancelled, std::string("a cancelled run gives another error: ") + (error ? error->what() : ""));
        felt = error.has_value();
    }
    require(felt, "no run felt cancel()");
    const auto after = running.run(inputs);
    require_f32(subject, after[0], to_array(undisturbed[0]), "a run after a cancelled one");
}

void cancel_deep_model(const Subject& subject) {
    // Deep enough that a run lasts longer than cancel() takes to come.
    for (int depth = 200;; depth *= 10) {
        const Running running = start(subject, deep_model(256, depth));
        const std::vector<Tensor> inputs{f32(spread({256, 256}, -1, 1))};
        static_cast<void>(running.run(inputs));
        const auto begin = std::chrono::steady_clock::now();
        static_cast<void>(running.run(inputs));
        if (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(8) && depth < 20000) continue;
        return cancel_until_felt(subject, running, inputs);
    }
}

void cancel_loop(const Subject& subject) {
    const Running running = start(subject, loop_model(400000));
    cancel_until_felt(subject, running, {f32(Array({1}, 0.0))});
}

void cancel_spares_others(const Subject& subject) {
    const Running running = start(subject, affine_model({1000}));
    const auto other = running.executable->create_request();
    std::atomic<bool> done = false;
    std::jthread canceller([&] {
        while (!done) {
            other->cancel();
            std::this_thread::yield();
        }
    });
    const Array x = spread({1000}, -1, 1);
    std::exception_ptr failure;
    try {
        for (int round = 0; round < 200; ++round) require_f32(subject, running.run({f32(x)})[0], affine(x), "beside a cancelled request");
    } catch (...) {
        failure = std::current_exception();
    }
    done = true;
    canceller.join();
    if (failure) std::rethrow_exception(failure);
}

std::int64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    std::int64_t size = 0;
    std::int64_t resident = 0;
    file >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

/// Fails if the process grows by more than `limit` bytes over `rounds` of `work`, after as many to warm up.
void require_bounded(const std::string& what, int rounds, std::int64_t limit, const std::function<void()>& work) {
    for (int i = 0; i < rounds; ++i) work();
    const std::int64_t before = resident_bytes();
    for (int i = 0; i < rounds; ++i) work();
    const std::int64_t growth = resident_bytes() - before;
    require(growth <= limit, what + ": " + std::to_string(rounds) + " rounds grew the process by " + std::to_string(growth >> 10) + " KiB");
}

void compiling_leaks_nothing(const Subject& subject) {
    // 4 MiB of weights: a leaked round in four is over the limit.
    const backend::Model model = deep_model(1024, 1);
    require_bounded("compile and release", 20, 16 << 20, [&] { static_cast<void>(start(subject, model)); });
}

void running_leaks_nothing(const Subject& subject) {
    const Running fixed = start(subject, affine_model({4096}));
    const Running dynamic = start(subject, affine_model({-1}));
    const Tensor input = f32(spread({4096}, -1, 1));
    const Tensor large = f32(spread({30000}, -1, 1));
    require_bounded("run with new outputs", 1000, 4 << 20, [&] {
        static_cast<void>(fixed.run({input}));
        static_cast<void>(dynamic.run({large}));
    });
}

void requests_leak_nothing(const Subject& subject) {
    const Running running = start(subject, affine_model({30000}));
    const Tensor input = f32(spread({30000}, -1, 1));
    std::vector<Tensor> outputs(1);
    require_bounded("create, run and drop a request", 200, 4 << 20, [&] { running.executable->create_request()->run(std::vector{input}, outputs); });
}

}  // namespace

void add_concurrency_tests(Tests& tests) {
    tests.push_back({"threads", "requests_in_parallel", requests_in_parallel});
    tests.push_back({"threads", "prepare_beside_compile", prepare_beside_compile});
    tests.push_back({"threads", "streams_in_parallel", streams_in_parallel});
    tests.push_back({"threads", "compiles_in_parallel", compiles_in_parallel});
    tests.push_back({"threads", "executables_side_by_side", executables_side_by_side});
    tests.push_back({"cancel", "when_idle", cancel_when_idle});
    tests.push_back({"cancel", "deep_model", cancel_deep_model});
    tests.push_back({"cancel", "loop", cancel_loop});
    tests.push_back({"cancel", "spares_others", cancel_spares_others});
    tests.push_back({"memory", "compiling_leaks_nothing", compiling_leaks_nothing});
    tests.push_back({"memory", "running_leaks_nothing", running_leaks_nothing});
    tests.push_back({"memory", "requests_leak_nothing", requests_leak_nothing});
}

}  // namespace ai_vmm::conformance
