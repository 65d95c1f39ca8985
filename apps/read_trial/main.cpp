// SPDX-License-Identifier: Apache-2.0
// Reads one model and exits: 0 if it was read, 3 if it was refused. What else ends this process would have ended the one that asked
// (src/graph/trial.hpp). Usage: ai_vmm_read_trial PATH
#include <cstdio>

#include "graph/reader.hpp"

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: ai_vmm_read_trial PATH\n", stderr);
        return 2;
    }
    try {
        ai_vmm::graph::ReadOptions options;
        options.without_trial = true;
        static_cast<void>(ai_vmm::graph::read_model(ai_vmm::graph::locate(argv[1]), options));
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 3;
    }
}
