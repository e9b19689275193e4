package androidx.test.platform.app

import android.content.Context
import java.io.File

class Arguments { fun getString(name: String): String? = System.getProperty("argument.$name") }

class InstrumentationRegistry private constructor() {
    val targetContext get() = Context(File(System.getProperty("folder")))
    companion object {
        fun getInstrumentation() = InstrumentationRegistry()
        fun getArguments() = Arguments()
    }
}
