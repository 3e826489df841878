# fedit_add_test(FOLDER/NAME [NP 1 2 4] [LABELS ...] [TIMEOUT seconds] [LIBS ...] [ARGS ...])
# builds tests/FOLDER/NAME_test.cpp and registers it with CTest, once, or once for each number of
# MPI ranks in NP. Every test runs in a folder of its own and has a time limit.
function(fedit_add_test path)
  cmake_parse_arguments(ARG "" "TIMEOUT" "NP;LABELS;LIBS;ARGS" ${ARGN})
  get_filename_component(folder "${path}" DIRECTORY)
  string(REPLACE "/" "_" target "test_${path}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${target} "${PROJECT_SOURCE_DIR}/tests/${path}_test.cpp")
  fedit_test_options(${target})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/src")
  # GoogleTest's headers cost more time than most tests: they are compiled once for all.
  target_precompile_headers(${target} REUSE_FROM fedit_test_headers)
  if(ARG_NP)
    target_link_libraries(${target} PRIVATE ${ARG_LIBS} fedit_test_mpi_main)
    foreach(ranks IN LISTS ARG_NP)
      _fedit_register("${path}.np${ranks}" ${ARG_TIMEOUT} ${ranks} "mpi;${ARG_LABELS}"
        ${MPIEXEC_EXECUTABLE} --bind-to none -n ${ranks} $<TARGET_FILE:${target}> ${ARG_ARGS})
    endforeach()
  else()
    target_link_libraries(${target} PRIVATE ${ARG_LIBS} fedit_test_main)
    _fedit_register("${path}" ${ARG_TIMEOUT} 1 "${ARG_LABELS}" $<TARGET_FILE:${target}> ${ARG_ARGS})
  endif()
endfunction()

# Tests are compiled more often than they are run, so little is spent on optimising them.
function(fedit_test_options target)
  fedit_compile_options(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

function(_fedit_register name timeout processors labels)
  set(directory "${PROJECT_BINARY_DIR}/test_runs/${name}")
  file(MAKE_DIRECTORY "${directory}")
  add_test(NAME "${name}" COMMAND ${ARGN} WORKING_DIRECTORY "${directory}")
  fedit_test_properties("${name}" ${timeout} ${processors} "${labels}")
endfunction()

# What every CTest entry of ours needs, also those that run a script.
function(fedit_test_properties name timeout processors labels)
  set(environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
    OMP_NUM_THREADS=1)
  if(FEDIT_SANITIZE)
    # Sanitized code is some ten times slower. MPI keeps memory, in plugins that are gone when leaks
    # are looked for, so that no list of theirs can name them.
    math(EXPR timeout "10 * ${timeout}")
    list(APPEND environment ASAN_OPTIONS=detect_leaks=0)
  endif()
  set_tests_properties("${name}" PROPERTIES TIMEOUT ${timeout} PROCESSORS ${processors}
    LABELS "${labels}" ENVIRONMENT "${environment}")
endfunction()
