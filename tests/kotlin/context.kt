// What the generated code uses of Android's Context.
package android.content

import android.content.res.AssetManager
import java.io.File

class Context(private val folder: File) {
    val assets get() = AssetManager(File(folder, "assets"))
    val filesDir get() = File(folder, "files").apply { mkdirs() }
    val cacheDir get() = File(folder, "cache").apply { mkdirs() }
    fun getExternalFilesDir(type: String?): File? = File(folder, type ?: "external").apply { mkdirs() }
    fun getSystemService(name: String): Any = android.os.PowerManager(name)
    companion object { const val POWER_SERVICE = "power" }
}
