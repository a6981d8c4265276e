# Runs the example twice on a fresh store and compares what it prints with what it must.
file(REMOVE_RECURSE ${STORE})
foreach(run 1 2)
    execute_process(COMMAND ${EXAMPLE} ${STORE} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE error)
    if(run EQUAL 1)
        set(new 2)
    else()
        set(new 0)
    endif()
    set(expected "saved checkpoint ${run} of session 'example': 2 pods, ${new} of them new
inner: list, 2 items, changed in checkpoint 1
outer: list, 2 items, changed in checkpoint 1
outer: a pickle of 17 bytes: 80 05 5d 94 28 4b 01 5d 94 28 4b 02 4b 03 65 65 2e
")
    if(NOT result EQUAL 0 OR NOT output STREQUAL expected)
        message(FATAL_ERROR "status ${result}\n${error}\nexpected:\n${expected}\ngot:\n${output}")
    endif()
endforeach()
file(REMOVE_RECURSE ${STORE})
