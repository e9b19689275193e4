// What the generated code uses of LiteRT-LM's Kotlin interface (0.18), written from notes of its sources of July 2026.
// The engine answers what the test gave it, in order, and keeps what it was asked.
package com.google.ai.edge.litertlm

@RequiresOptIn @Retention(AnnotationRetention.BINARY) annotation class ExperimentalApi

sealed class Backend(val name: String) {
    data class CPU(val threadCount: Int? = null) : Backend("CPU")
    class GPU : Backend("GPU")
}

data class EngineConfig(
    val modelPath: String,
    val backend: Backend = Backend.CPU(),
    val visionBackend: Backend? = null,
    val audioBackend: Backend? = null,
    val maxNumTokens: Int? = null,
    val maxNumImages: Int? = null,
    val cacheDir: String? = null,
)

data class SamplerConfig(val topK: Int, val topP: Double, val temperature: Double, val seed: Int = 0)

data class ConversationConfig(
    val systemInstruction: Contents? = null,
    val initialMessages: List<Message> = listOf(),
    val tools: List<ToolProvider> = listOf(),
    val samplerConfig: SamplerConfig? = null,
    val automaticToolCalling: Boolean = true,
    val maxOutputToken: Int? = null,
)

interface OpenApiTool {
    fun getToolDescriptionJsonString(): String
    fun execute(paramsJsonString: String): String
}

interface ToolSet

abstract class ToolProvider { abstract val json: String }

fun tool(toolSet: ToolSet): ToolProvider = error("$toolSet: not used")

fun tool(openApiTool: OpenApiTool): ToolProvider = object : ToolProvider() {
    override val json get() = openApiTool.getToolDescriptionJsonString()
}

sealed class Content {
    data class Text(val text: String) : Content() { override fun toString() = text }
    data class ToolResponse(val name: String, val response: Any?) : Content()
}

class Contents private constructor(val contents: List<Content>) {
    override fun toString() = contents.joinToString("")
    companion object {
        fun of(text: String) = Contents(listOf(Content.Text(text)))
        fun of(vararg contents: Content) = Contents(contents.toList())
        fun of(contents: List<Content>) = Contents(contents)
    }
}

enum class Role { SYSTEM, USER, MODEL, TOOL }

data class ToolCall(val name: String, val arguments: Map<String, Any?>)

class Message internal constructor(val role: Role, val contents: Contents, val toolCalls: List<ToolCall> = listOf()) {
    override fun toString() = contents.toString()
    companion object {
        fun system(contents: Contents) = Message(Role.SYSTEM, contents)
        fun user(contents: Contents) = Message(Role.USER, contents)
        fun user(text: String) = user(Contents.of(text))
        fun model(contents: Contents, toolCalls: List<ToolCall> = listOf()) = Message(Role.MODEL, contents, toolCalls)
        fun tool(contents: Contents) = Message(Role.TOOL, contents)
    }
}

@ExperimentalApi
object ExperimentalFlags { var enableBenchmark = false }

data class BenchmarkInfo(
    val initTimeInSecond: Double,
    val timeToFirstTokenInSecond: Double,
    val lastPrefillTokenCount: Int,
    val lastDecodeTokenCount: Int,
    val lastPrefillTokensPerSecond: Double,
    val lastDecodeTokensPerSecond: Double,
)

/** What the stand-in engine answers, by turns, and what it was told. */
object Recording {
    val answers = ArrayDeque<Message>()
    val configs = mutableListOf<ConversationConfig>()
    val told = mutableListOf<Message>()
}

class Engine(val config: EngineConfig) : AutoCloseable {
    fun initialize() {}
    fun createConversation(config: ConversationConfig = ConversationConfig()): Conversation {
        Recording.configs += config
        return Conversation()
    }
    override fun close() {}
}

class Conversation : AutoCloseable {
    fun sendMessage(message: Message): Message {
        Recording.told += message
        return Recording.answers.removeFirstOrNull() ?: error("no answer left")
    }
    fun sendMessage(text: String): Message = sendMessage(Message.user(text))
    @ExperimentalApi
    fun getBenchmarkInfo() = BenchmarkInfo(0.1, 0.25, 100, 20, 400.0, 80.0)
    override fun close() {}
}
