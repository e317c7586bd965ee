/* SPDX-License-Identifier: BSD-3-Clause
 *
 * compiler - what we tell the compiler beyond C11.
 *
 * Answers: how is a promise about an argument, a result or a lock written so
 * that gcc and clang hold us to it?
 *
 * Threads  nothing here runs, but for container_of, which is arithmetic.
 * Cost     none at run time.
 *
 * The lock annotations speak to clang's -Wthread-safety and are empty under
 * gcc.  In C, clang 14 understands them on functions, whose arguments they
 * may name, and not on fields: fields carry a comment that names their guard.
 */
#ifndef PC_COMPILER_H
#define PC_COMPILER_H

#include <stddef.h>

/* The result must be looked at: an errno value that nobody reads is a bug. */
#define PC_MUST_CHECK __attribute__ ((__warn_unused_result__))

/* These arguments (counted from 1) are never NULL. */
#define PC_NONNULL(...) __attribute__ ((__nonnull__ (__VA_ARGS__)))

/* Argument FMT is a printf format for the arguments from FIRST on. */
#define PC_PRINTF(fmt, first) \
  __attribute__ ((__format__ (__printf__, fmt, first)))

/* The result is fresh memory, given back with DEALLOC (result). */
#if defined __GNUC__ && !defined __clang__
#define PC_MALLOC(dealloc) \
  __attribute__ ((__malloc__, __malloc__ (dealloc, 1)))
#else
#define PC_MALLOC(dealloc) __attribute__ ((__malloc__))
#endif

/* The result depends on the arguments (PURE: and on memory) alone. */
#define PC_CONST __attribute__ ((__const__))
#define PC_PURE __attribute__ ((__pure__))

#define PC_NORETURN __attribute__ ((__noreturn__))
#define PC_UNUSED __attribute__ ((__unused__))

/* Runs FN (&variable) when the variable leaves its scope. */
#define PC_CLEANUP(fn) __attribute__ ((__cleanup__ (fn)))

/* For the one branch in thousands; the hit path stays straight. */
#define PC_LIKELY(cond) __builtin_expect (!!(cond), 1)
#define PC_UNLIKELY(cond) __builtin_expect (!!(cond), 0)

/* Two threads that write neighbours must not share a line of the cache. */
#define PC_CACHE_LINE 64
#define PC_CACHE_ALIGNED __attribute__ ((__aligned__ (PC_CACHE_LINE)))

/* The struct TYPE whose field MEMBER is at PTR.  The comparison is never
 * evaluated: it makes a pointer of another type an error.
 */
#define container_of(ptr, type, member)                                       \
  ((type *) ((char *) (ptr)                                                   \
             - offsetof (type, member)                                        \
             + 0 * sizeof ((ptr) == &((type *) NULL)->member)))

/* Number of elements; a pointer instead of an array does not compile. */
#define PC_ARRAY_SIZE(a)                                                      \
  (sizeof (a) / sizeof ((a)[0])                                               \
   + 0 * sizeof (struct {                                                     \
       int is_array : 1 - 2 * __builtin_types_compatible_p (                  \
                                __typeof__ (a), __typeof__ (&(a)[0]));        \
     }))

#if defined __clang__
#define PC_TSA(x) __attribute__ ((x))
#else
#define PC_TSA(x)
#endif

/* On a struct: it is something that is held, such as "mutex". */
#define PC_CAPABILITY(name) PC_TSA (capability (name))

/* The caller holds these locks, exclusively or shared. */
#define PC_REQUIRES(...) PC_TSA (requires_capability (__VA_ARGS__))
#define PC_REQUIRES_SHARED(...) \
  PC_TSA (requires_shared_capability (__VA_ARGS__))

/* The caller does not hold these; the function may take them. */
#define PC_EXCLUDES(...) PC_TSA (locks_excluded (__VA_ARGS__))

/* The function returns with these taken, or given back. */
#define PC_ACQUIRE(...) PC_TSA (acquire_capability (__VA_ARGS__))
#define PC_ACQUIRE_SHARED(...) \
  PC_TSA (acquire_shared_capability (__VA_ARGS__))
#define PC_RELEASE(...) PC_TSA (release_capability (__VA_ARGS__))
#define PC_RELEASE_SHARED(...) \
  PC_TSA (release_shared_capability (__VA_ARGS__))

/* Taken if the function returned RESULT. */
#define PC_TRY_ACQUIRE(result, ...) \
  PC_TSA (try_acquire_capability (result, __VA_ARGS__))

/* The function stops the program unless these are held. */
#define PC_ASSERT_HELD(...) PC_TSA (assert_capability (__VA_ARGS__))

/* The function that makes the lock work, which clang cannot follow. */
#define PC_NO_TSA PC_TSA (no_thread_safety_analysis)

#endif /* PC_COMPILER_H */
