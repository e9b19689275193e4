package org.junit

annotation class Test

object Assert {
    fun assertEquals(expected: Any?, found: Any?) { if (expected != found) throw AssertionError("$found, not $expected") }

    fun assertThrows(kind: Class<out Throwable>, run: () -> Unit) {
        try { run() } catch (problem: Throwable) { if (kind.isInstance(problem)) return }
        throw AssertionError("no $kind")
    }
}
