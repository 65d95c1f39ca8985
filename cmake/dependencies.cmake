# Pinned wheels of the Python environment and libraries of the distribution; reasons in docs/dependencies.md.
set(Python_EXECUTABLE ${AI_VMM_ENV}/bin/python)
if(NOT EXISTS ${Python_EXECUTABLE})
  message(FATAL_ERROR "No Python environment at ${AI_VMM_ENV}. Run scripts/bootstrap.sh (or `make build`), or set AI_VMM_ENV.")
endif()
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"
                OUTPUT_VARIABLE AI_VMM_SITE_PACKAGES OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

set(AI_VMM_OPENVINO_VERSION 2026.4.1)
set(OpenVINO_DIR ${AI_VMM_SITE_PACKAGES}/openvino/cmake)
find_package(OpenVINO 2026.4 REQUIRED COMPONENTS Runtime ONNX TensorFlow TensorFlowLite Paddle PyTorch IR Threading)
# The SDK's headers are not ours to warn about; imported targets are SYSTEM already.

# ONNX Runtime: the wheel has the library, the headers are apart (scripts/bootstrap.sh puts them there).
set(AI_VMM_ONNXRUNTIME_VERSION 1.31.1)
set(AI_VMM_ONNXRUNTIME_INCLUDE ${AI_VMM_ENV}/onnxruntime/include CACHE PATH "Folder with onnxruntime_c_api.h")
set(AI_VMM_ONNXRUNTIME_LIBRARY ${AI_VMM_SITE_PACKAGES}/onnxruntime/capi/libonnxruntime.so.${AI_VMM_ONNXRUNTIME_VERSION})
if(NOT EXISTS ${AI_VMM_ONNXRUNTIME_INCLUDE}/onnxruntime_c_api.h)
  message(FATAL_ERROR "onnxruntime_c_api.h not found in ${AI_VMM_ONNXRUNTIME_INCLUDE}. Run scripts/bootstrap.sh, or set AI_VMM_ONNXRUNTIME_INCLUDE.")
endif()

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_path(PROTOZERO_INCLUDE protozero/pbf_reader.hpp REQUIRED)
add_library(protozero INTERFACE)
add_library(protozero::protozero ALIAS protozero)

# Headers of CUDA and NVIDIA's libraries; the libraries themselves are opened at run time. Pinned ones (scripts/cuda_env.sh) before an installed toolkit.
set(AI_VMM_CUDA OFF)
if(NOT AI_VMM_BUILD_CUDA STREQUAL "OFF")
  find_path(AI_VMM_CUDA_INCLUDE NAMES cudnn_frontend.h PATHS ${AI_VMM_CUDA_ENV}/include /usr/local/cuda/include NO_DEFAULT_PATH)
  if(AI_VMM_CUDA_INCLUDE AND EXISTS ${AI_VMM_CUDA_INCLUDE}/cuda.h)
    set(AI_VMM_CUDA ON)
    add_library(ai_vmm_cuda_headers INTERFACE)
    target_include_directories(ai_vmm_cuda_headers SYSTEM INTERFACE ${AI_VMM_CUDA_INCLUDE})
  elseif(AI_VMM_BUILD_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA backend: off, no headers in ${AI_VMM_CUDA_ENV}/include (`make cuda-env` fetches them)")
  else()
    message(FATAL_ERROR "AI_VMM_BUILD_CUDA is ON, but cuda.h and cudnn_frontend.h are not in ${AI_VMM_CUDA_ENV}/include. Run `make cuda-env`, or set AI_VMM_CUDA_ENV.")
  endif()
endif()
