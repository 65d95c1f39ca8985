# Compiler settings shared by every target.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# Caches tell builds apart by it.
add_link_options(-Wl,--build-id=sha1)

add_library(ai_vmm_options INTERFACE)
target_compile_options(ai_vmm_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False positives of g++ 12 in inlined std::string and std::vector code.
  target_compile_options(ai_vmm_options INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-free-nonheap-object -Wno-maybe-uninitialized)
endif()
# Aggregates are meant to be initialised in part: {.max_latency_ms = 10}.
target_compile_options(ai_vmm_options INTERFACE -Wno-missing-field-initializers)
if(AI_VMM_WERROR)
  target_compile_options(ai_vmm_options INTERFACE -Werror)
endif()
if(AI_VMM_SANITIZE)
  add_compile_options(-fsanitize=${AI_VMM_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${AI_VMM_SANITIZE})
  if(AI_VMM_SANITIZE MATCHES "undefined")
    # vptr checks need RTTI of vendor classes that hide it.
    add_compile_options(-fno-sanitize-recover=undefined -fno-sanitize=vptr)
  endif()
endif()
if(AI_VMM_BUILD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage feedback from the libraries too
endif()
if(AI_VMM_COVERAGE)
  add_compile_options(--coverage -fprofile-update=atomic)  # threads count together: lost updates make counts negative, which gcovr refuses
  add_link_options(--coverage)
endif()
