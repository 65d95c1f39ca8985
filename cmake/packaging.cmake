# Install rules and the CMake package `ai_vmm`.
